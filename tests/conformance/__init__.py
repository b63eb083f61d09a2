"""Verifiers and witnesses that nobody here wrote, on a log made by a demo: `python -m tests.conformance`."""
