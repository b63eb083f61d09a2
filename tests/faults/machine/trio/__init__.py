"""Three brokers: the one that matters at the moment is killed or stood still, again and again.

    python -m tests.faults.machine.trio --kills 20 --seed 7 [--target NAME] [--lines]

Replication factor 3, two in-sync replicas at least: one broker may be away at any time without a loss and
without an operator. What counts is that service comes back by itself, how long that takes, and that the books
are right afterwards. `docs/operations.md` says what an operator sees meanwhile.
"""
