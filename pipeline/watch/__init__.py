"""The parts of the monitor: what it remembers, what it reads as a stranger would, and what it makes of it."""
