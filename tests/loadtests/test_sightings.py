"""What an observer saw, put together: how much is committed and not sealed."""

from loadtests.sightings import Sightings, Steps

PLACE = ("device.events", 0)


def seen(stable: list[int], covered: list[int]) -> Sightings:
    """As after looks at a partition's stable end, and at the last offset under its checkpoint."""
    return Sightings(
        stable={PLACE: Steps(list(range(len(stable))), stable)},
        covered={PLACE: Steps(list(range(len(covered))), covered)},
    )


def test_what_no_checkpoint_covers_waits_and_markers_do_not() -> None:
    assert seen([100, 151], [99, 139]).unsealed() == 10
    assert seen([100, 151], [99, 149]).unsealed() == 0


def test_what_was_there_before_the_first_look_does_not_wait() -> None:
    """A run that goes on in a log begins with all of it committed, and no checkpoint read yet."""
    assert seen([80_000], []).unsealed() == 0
    assert seen([80_000, 80_011], []).unsealed() == 10
    assert seen([], []).unsealed() == 0
