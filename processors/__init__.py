"""Decisions without IO: a batch goes in, an outcome comes out; time and randomness are arguments."""
