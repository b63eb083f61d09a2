"""The ledger and its mirror as they fail: a world with a real anchor worker, and who judges it."""
