"""The local stack: a real Kafka, the ledger stand-in and every stage, as processes on this machine."""
