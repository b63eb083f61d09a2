"""The fault machine: seeded schedules of faults against the real stages, judged from outside."""
