"""Which source records a message tells of, as text: `{"device.findings/3": "12-40,44"}`.

So that nothing is dropped in silence, every alert says in `unmapped.covers` for which records it stands:
whoever has the topics can see that each is told of somewhere.
"""

from collections.abc import Iterable, Iterator, Mapping

from schemas.errors import FormatError

MAX_OFFSETS = 100_000
"""Of one message; ours hold far fewer, and a forged range must not fill the memory."""


class CoversError(FormatError):
    """A text is no list of offsets."""


def compact(places: Iterable[str]) -> dict[str, str]:
    """Write places `topic/partition/offset` as ranges, by partition and in order."""
    offsets: dict[str, list[int]] = {}
    for place in places:
        partition, _, offset = place.rpartition("/")
        offsets.setdefault(partition, []).append(int(offset))
    return {name: ",".join(_ranges(sorted(set(found)))) for name, found in sorted(offsets.items())}


def _ranges(offsets: list[int]) -> Iterator[str]:
    start = last = offsets[0]
    for offset in [*offsets[1:], None]:
        if offset is not None and offset == last + 1:
            last = offset
            continue
        yield str(start) if start == last else f"{start}-{last}"
        if offset is not None:
            start = last = offset


def places(covers: Mapping[str, str]) -> list[str]:
    """Read what `compact` wrote; raises CoversError."""
    found: list[str] = []
    for partition, text in covers.items():
        for part in text.split(","):
            first, dash, last = part.partition("-")
            try:
                start, end = int(first), int(last) if dash else int(first)
            except ValueError as error:
                raise CoversError(f"{part[:40]!r} is no offset and no range") from error
            if not 0 <= end - start < MAX_OFFSETS - len(found):
                raise CoversError(f"{part[:40]!r} goes back, or is of too many records")
            found += [f"{partition}/{offset}" for offset in range(start, end + 1)]
    return found
