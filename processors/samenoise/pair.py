"""Two devices whose prints have met, and their bytes for the changelog."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from processors.detect.errors import StateError
from processors.samenoise.table import Place
from schemas.codec import CODEC
from schemas.errors import CodecError
from schemas.noise import PRINT_SIGNS

MAX_SIGNALS = 64


@dataclass(slots=True)
class Party:
    """One device of a pair."""

    device_id: str
    boot: int
    first: Place
    """Where the first meeting was seen."""
    last: Place


@dataclass(slots=True)
class Pair:
    """What is known of two devices; sequence numbers are those of `one`, times the broker's."""

    one: Party
    """The device whose id is the lower one."""
    other: Party
    distance: int
    """Sequence number of `one` less that of `other`, where both have the same noise."""
    last_sequence: int
    last_us: int
    signals: dict[int, int] = field(default_factory=dict)
    """By signal, the sequence number of its last meeting."""
    covered: int = 0
    """Changes that went alike, each signal's for itself."""
    meetings: int = 0
    told_of: str | None = None
    """The device that the open finding is about; None where none is open."""
    opened_at: int = 0
    """Meetings when it was opened."""

    @property
    def devices(self) -> tuple[str, str]:
        """Both ids, the lower first."""
        return self.one.device_id, self.other.device_id

    def cover(self, code: int, sequence: int) -> None:
        """Count what a print that ends here adds to those before."""
        last = self.signals.get(code)
        if last is None:
            if len(self.signals) >= MAX_SIGNALS:
                return
            last = sequence - PRINT_SIGNS
        self.covered += max(0, min(PRINT_SIGNS, sequence - last))
        self.signals[code] = max(last, sequence)


def encode_memory(next_offset: int, from_offset: int, pair: Pair | None) -> bytes:
    """Write what stands under one key of the changelog."""
    return CODEC.encode(
        "noise_memory",
        {
            "next_offset": next_offset,
            "from_offset": from_offset,
            "pair": None if pair is None else _record_of(pair),
        },
    )


def decode_memory(data: bytes) -> tuple[int, int, Pair | None]:
    """Read (next offset, from offset, pair); raises StateError for bytes that were never written."""
    try:
        found = CODEC.decode("noise_memory", data)
    except CodecError as error:
        message = f"memory of noise of {len(data)} bytes cannot be read: {error}"
        raise StateError(message) from error
    pair = found["pair"]
    return found["next_offset"], found["from_offset"], None if pair is None else _pair_of(pair)


def _record_of(pair: Pair) -> Mapping[str, Any]:
    return {
        "one": _party_record(pair.one),
        "other": _party_record(pair.other),
        "distance": pair.distance,
        "last_sequence": pair.last_sequence,
        "last": pair.last_us,
        "signals": [{"code": code, "sequence": at} for code, at in pair.signals.items()],
        "covered": pair.covered,
        "meetings": pair.meetings,
        "told_of": pair.told_of,
        "opened_at": pair.opened_at,
    }


def _pair_of(found: Mapping[str, Any]) -> Pair:
    return Pair(
        _party(found["one"]),
        _party(found["other"]),
        found["distance"],
        found["last_sequence"],
        found["last"],
        {each["code"]: each["sequence"] for each in found["signals"]},
        found["covered"],
        found["meetings"],
        found["told_of"],
        found["opened_at"],
    )


def _party_record(party: Party) -> Mapping[str, Any]:
    return {
        "device_id": party.device_id,
        "boot": party.boot,
        "first": party.first._asdict(),
        "last": party.last._asdict(),
    }


def _party(found: Mapping[str, Any]) -> Party:
    return Party(found["device_id"], found["boot"], Place(**found["first"]), Place(**found["last"]))
