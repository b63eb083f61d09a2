"""Access: who may do what at which device. Requests and tables in, decisions out; no IO (docs/access.md)."""
