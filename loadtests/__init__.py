"""The simulated fleet on real vitals, and what measures under load; knows only what crosses the boundary."""
