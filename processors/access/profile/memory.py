"""What is remembered of one person's access, across devices. Bounded, whatever a device or a registry says.

A person is known by a digest, so that a state's key has the same length whatever a device calls somebody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from processors.detect.errors import StateError
from schemas.codec import CODEC
from schemas.errors import CodecError
from schemas.records import Severity

MAX_DENIALS = 64
MAX_EXPORTS = 64
MAX_HABIT_DAYS = 14
MAX_PLACES = 4
MAX_PLACE_TEXT = 64
"""Characters of a ward or a site that are kept as they are; a longer one keeps its beginning and a digest."""
_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Denial:
    """A request that was denied for want of a right; device and action as `hashed`."""

    time_us: int
    offset: int
    device: bytes
    action: bytes


@dataclass(frozen=True, slots=True)
class Export:
    """A permit by which data left a device, which stands as `hashed`."""

    time_us: int
    offset: int
    device: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where the person was; texts as `place_text` makes them, empty where the device has none."""

    time_us: int
    offset: int
    ward: str
    site: str

    def is_at(self, other: "Place") -> bool:
        """Tell whether both are the same place, whenever that was."""
        return (self.ward, self.site) == (other.ward, other.site)


@dataclass(slots=True)
class Episode:
    """A finding that is open."""

    rule: str
    device_id: str
    first_offset: int
    """Of the decision that opened it."""
    last_us: int
    count: int
    severity: Severity
    """The highest that was told."""
    score: float
    """Of the decision that opened it."""


@dataclass(slots=True)
class Profile:
    """Of one person; times are broker times in microseconds, offsets those of his decisions' partition."""

    next_offset: int = 0
    newest_us: int = 0
    active_us: int | None = None
    """Newest request whose credential held."""
    denials: list[Denial] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    peaks: dict[int, int] = field(default_factory=dict)
    """By day since 1970, UTC: most exports within the window; the newest days, oldest first."""
    places: list[Place] = field(default_factory=list)
    episodes: dict[str, Episode] = field(default_factory=dict)
    """By rule."""

    def encode(self) -> bytes:
        """Write it so that `decode_profile` gives exactly it."""
        return CODEC.encode(
            "profile",
            {
                "next_offset": self.next_offset,
                "newest": self.newest_us,
                "active": self.active_us,
                "denials": [
                    {"time": e.time_us, "offset": e.offset, "device": e.device, "action": e.action}
                    for e in self.denials
                ],
                "exports": [
                    {"time": e.time_us, "offset": e.offset, "device": e.device} for e in self.exports
                ],
                "days": [{"day": day, "peak": peak} for day, peak in self.peaks.items()],
                "places": [
                    {"time": e.time_us, "offset": e.offset, "ward": e.ward, "site": e.site}
                    for e in self.places
                ],
                "episodes": [_episode_record(each) for each in self.episodes.values()],
            },
        )


def decode_profile(data: bytes) -> Profile:
    """Read a profile; raises StateError for bytes that `encode` never wrote."""
    try:
        found = CODEC.decode("profile", data)
        return Profile(
            found["next_offset"],
            found["newest"],
            found["active"],
            [Denial(e["time"], e["offset"], e["device"], e["action"]) for e in found["denials"]],
            [Export(e["time"], e["offset"], e["device"]) for e in found["exports"]],
            {each["day"]: each["peak"] for each in found["days"]},
            [Place(e["time"], e["offset"], e["ward"], e["site"]) for e in found["places"]],
            {each["rule"]: _episode(each) for each in found["episodes"]},
        )
    except (CodecError, ValueError) as error:
        message = f"profile of {len(data)} bytes cannot be read: {error}"
        raise StateError(message) from error


def person_key(subject: str) -> bytes:
    """Return the key of a person's state: 32 hex digits of BLAKE3 of what devices call him."""
    return blake3(subject.encode("utf-8", "surrogatepass")).digest(16).hex().encode()


def hashed(text: str) -> bytes:
    """Return what stands for a device or an action: 8 bytes of BLAKE3."""
    return blake3(text.encode("utf-8", "surrogatepass")).digest(_HASH_BYTES)


def place_text(text: str) -> str:
    """Shorten the name of a ward or site to MAX_PLACE_TEXT characters; different names stay different."""
    if len(text) <= MAX_PLACE_TEXT:
        return text
    digest = hashed(text).hex()
    return f"{text[: MAX_PLACE_TEXT - len(digest) - 1]}~{digest}"


def _episode_record(episode: Episode) -> Mapping[str, Any]:
    return {
        "rule": episode.rule,
        "device_id": episode.device_id,
        "first_offset": episode.first_offset,
        "last": episode.last_us,
        "count": episode.count,
        "severity": episode.severity.value,
        "score": episode.score,
    }


def _episode(found: Mapping[str, Any]) -> Episode:
    return Episode(
        found["rule"],
        found["device_id"],
        found["first_offset"],
        found["last"],
        found["count"],
        Severity(found["severity"]),
        found["score"],
    )
