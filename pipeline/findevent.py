"""From what a person knows of a record to its place: the place itself, an event's name, or a digest."""

from dataclasses import dataclass

from blake3 import blake3

from pipeline.evidence import NoSuchRecordError
from pipeline.index import Place, find
from pipeline.lookup import read_record
from pipeline.recordindex import KEY_BYTES, EventName, name_of
from pipeline.settings import Settings, UsageError
from pipeline.topics import EVENTS
from schemas.envelope import PayloadKind
from schemas.events import EVENT_KINDS

DIGEST_BYTES = blake3.digest_size


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was said of the record; what was not said is None."""

    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    device: str | None = None
    boot: int | None = None
    sequence: int | None = None
    kind: str = PayloadKind.TELEMETRY.value
    digest: str | None = None


def find_place(settings: Settings, wanted: Wanted) -> tuple[str, int, int]:
    """Find the one record; raises UsageError for half a name or two, NoSuchRecordError for none."""
    by_place = (wanted.topic, wanted.partition, wanted.offset)
    by_name = (wanted.device, wanted.boot, wanted.sequence)
    ways = [any(part is not None for part in way) for way in (by_place, by_name, (wanted.digest,))]
    if ways.count(True) != 1:
        raise UsageError(
            "name the record in one way: --topic --partition --offset, --device --boot --sequence, "
            "or --digest"
        )
    if ways[0]:
        if wanted.topic is None or wanted.partition is None or wanted.offset is None:
            raise UsageError("a place is --topic, --partition and --offset together")
        return wanted.topic, wanted.partition, wanted.offset
    if wanted.digest is None:
        name = _name(wanted)
        what = f"{name.kind.value} of {name.device_id}, boot {name.boot}, sequence {name.sequence}"
        place = find(
            settings,
            lambda index: index.by_name(name),
            is_right=lambda place: _named_at(settings, place)[0] == name,
        )
    else:
        digest = _digest(wanted.digest)
        what = f"event with the payload digest {digest.hex()}"
        place = find(
            settings,
            lambda index: index.by_digest(digest),
            is_right=lambda place: _named_at(settings, place)[1].startswith(digest),
        )
    if place is None:
        raise NoSuchRecordError(f"{EVENTS} holds no {what}")
    return EVENTS, *place


def _name(wanted: Wanted) -> EventName:
    if wanted.device is None or wanted.boot is None or wanted.sequence is None:
        raise UsageError("an event's name is --device, --boot and --sequence together")
    kinds = {kind.value: kind for kind in EVENT_KINDS}
    if wanted.kind not in kinds:
        raise UsageError(f"--kind {wanted.kind}: event types are {', '.join(kinds)}")
    return EventName(wanted.device, kinds[wanted.kind], wanted.boot, wanted.sequence)


def _digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError as error:
        raise UsageError(f"--digest {text[:80]}: not hexadecimal") from error
    if len(digest) not in (KEY_BYTES, DIGEST_BYTES):
        raise UsageError(f"--digest has {len(digest)} bytes: {DIGEST_BYTES} are the whole, {KEY_BYTES} do")
    return digest


def _named_at(settings: Settings, place: Place) -> tuple[EventName | None, bytes]:
    """Name and payload digest of the event at a place."""
    record = read_record(settings, (EVENTS, place[0]), place[1])
    return (record and name_of(record)) or (None, b"")
