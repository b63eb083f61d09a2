"""Runs the processors on Kafka: topics, settings, the transactional loop, one file per stage, the CLI."""
