"""How Hedera writes entities, times and transactions as text.

Entity `shard.realm.number`, time `seconds.nanoseconds` with nine digits, transaction
`payer@seconds.nanoseconds` in SDKs and `payer-seconds-nanoseconds` in the mirror's addresses.
"""

import re
from typing import NamedTuple

NANOS_PER_SECOND = 1_000_000_000
INT64_MAX = 2**63 - 1

_ENTITY = re.compile(r"(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})", re.ASCII)
_TIMESTAMP = re.compile(r"(\d{1,10})(?:\.(\d{1,9}))?", re.ASCII)


class EntityId(NamedTuple):
    """An account or a topic."""

    shard: int
    realm: int
    number: int

    def __str__(self) -> str:
        return f"{self.shard}.{self.realm}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> "EntityId":
        """Read `0.0.1001`; raises ValueError for anything else."""
        match = _ENTITY.fullmatch(text)
        if match is None or any(int(part) > INT64_MAX for part in match.groups()):
            raise ValueError(f"{text[:80]!r} is not an entity id of the form shard.realm.number")
        return cls(*(int(part) for part in match.groups()))


def format_timestamp(time_ns: int) -> str:
    """`1683553059.977315003` for a time in nanoseconds since the epoch."""
    seconds, nanos = divmod(time_ns, NANOS_PER_SECOND)
    return f"{seconds}.{nanos:09d}"


def parse_timestamp(text: str) -> int:
    """Nanoseconds since the epoch; fewer than nine decimals are read as a fraction. Raises ValueError."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:80]!r} is not a timestamp of the form seconds.nanoseconds")
    time_ns = int(match[1]) * NANOS_PER_SECOND + int((match[2] or "").ljust(9, "0"))
    if time_ns > INT64_MAX:
        raise ValueError(f"{text!r} lies beyond the year 2262")
    return time_ns


def format_transaction_id(payer: EntityId, valid_start_ns: int) -> str:
    """`0.0.2@1683553059.977315003`."""
    return f"{payer}@{format_timestamp(valid_start_ns)}"


def mirror_transaction_id(transaction_id: str) -> str:
    """`0.0.2-1683553059-977315003` for `0.0.2@1683553059.977315003`."""
    payer, _, start = transaction_id.partition("@")
    return f"{payer}-{start.replace('.', '-')}"


def parse_mirror_transaction_id(text: str) -> str:
    """The inverse of `mirror_transaction_id`; raises ValueError."""
    parts = text.split("-")
    if len(parts) != 3 or len(parts[2]) != 9:
        raise ValueError(f"{text[:80]!r} is not a transaction id of the form payer-seconds-nanoseconds")
    payer, seconds, nanos = parts
    return format_transaction_id(EntityId.parse(payer), parse_timestamp(f"{seconds}.{nanos}"))
