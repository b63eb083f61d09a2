"""Builds as registry entries make them: counted as they come, and shown so that a person can read them."""

import pytest

from processors.builds import MAX_NAME, Build, Builds
from processors.registry import Subject


def subject(device: int, version: int = 1, **attributes: str) -> Subject:
    return Subject(f"did:key:{device}", version, b"", attributes)


def test_devices_in_service_are_counted_as_entries_come() -> None:
    builds = Builds()
    for device in range(3):
        builds.note(subject(device, model="M540", firmware="4.2.1"), device)
    assert builds.of("did:key:0") == Build("M540", "4.2.1", 3, 0)
    builds.note(subject(1, 2, model="M540", firmware="4.3.0"), 70)
    assert builds.of("did:key:1") == Build("M540", "4.3.0", 1, 70)
    assert builds.of("did:key:0") == Build("M540", "4.2.1", 2, 0)
    ended = subject(2, 2, model="M540", firmware="4.2.1")
    ended.decommissioned_at = 9
    builds.note(ended, 80)
    assert builds.of("did:key:2") is None
    assert builds.of("did:key:0") == Build("M540", "4.2.1", 1, 0)
    assert builds.take_left() == ["did:key:1", "did:key:2"]
    assert builds.take_left() == []


def test_an_entry_that_says_the_same_changes_nothing() -> None:
    builds = Builds()
    for version in (1, 2, 3):
        builds.note(subject(0, version, model="M540", firmware="4.2.1", ward=f"w{version}"), version)
    assert builds.of("did:key:0") == Build("M540", "4.2.1", 1, 0)
    assert builds.take_left() == []


def test_a_model_that_is_said_later_counts_from_then_on() -> None:
    builds = Builds()
    builds.note(subject(0), 5)
    assert builds.of("did:key:0") is None
    builds.note(subject(0, 2, model="M540"), 6)
    assert builds.of("did:key:0") == Build("M540", "unknown", 1, 6)


def test_who_has_no_model_is_of_no_build() -> None:
    builds = Builds()
    builds.note(subject(0, firmware="4.2.1"), 0)
    builds.note(subject(1, model=" \n", firmware="4.2.1"), 0)
    assert [builds.of(f"did:key:{device}") for device in range(3)] == [None] * 3


@pytest.mark.parametrize(
    "texts",
    [
        ("A" * 5000 + "1", "A" * 5000 + "2"),
        ("M540\n{}", "M540\x00{}"),
        ("M540\u202e", "M540\u2066"),
        ("/", "//"),
        ("\ud800", "\udfff"),
    ],
)
def test_odd_names_are_readable_and_stay_apart(texts: tuple[str, str]) -> None:
    builds = Builds()
    for device, text in enumerate(texts):
        builds.note(subject(device, model=text, firmware=text), 0)
    for device in range(2):
        build = builds.of(f"did:key:{device}")
        assert build is not None
        assert build.devices == 1
        for name in (build.model, build.firmware):
            assert name.isprintable()
            assert len(name) <= MAX_NAME + 9
