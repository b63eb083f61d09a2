"""Other parties: the ledger protocol and its implementations."""
