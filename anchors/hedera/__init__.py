"""Hedera Consensus Service: the client, and a local service with the same interface."""
