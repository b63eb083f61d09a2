"""The load tester's ties to a stack: what is measured, and what comes out as a page (the rest: loadtests/)."""
