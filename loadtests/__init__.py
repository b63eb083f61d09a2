"""The simulated fleet on real vitals; knows only what crosses the boundary."""
