"""Attestream command line."""
