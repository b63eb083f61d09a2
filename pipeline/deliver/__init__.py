"""DELIVER: each party's alerts to each of its outputs, in order, until they are taken.

Plain asyncio, not Faust: every output has a group, a pace and a back-off of its own, and a Faust application
is one group, in which a receiver that is away stops the partitions of all others. The consumers are the
project's own (confluent-kafka), one thread each, so client settings and static membership are as everywhere.
"""

from pipeline.deliver.service import run

__all__ = ["run"]
