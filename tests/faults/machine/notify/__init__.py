"""Correlate, route and deliver under faults, from what is worth an alert to receivers that keep it."""
