"""The parts of verifying evidence, each a question of its own; `processors.verify` asks them in order."""
