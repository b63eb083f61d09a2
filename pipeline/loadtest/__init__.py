"""The load tester's ties to a stack, and its page; what measures is in `loadtests`."""
