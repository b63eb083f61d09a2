"""A deadline that holds whatever the call does."""

import threading
import time

import pytest

from pipeline.bounded import BoundedCalls, StalledCallError


def test_a_call_returns_or_raises_as_it_is() -> None:
    calls = BoundedCalls("test")
    seen: list[int] = []
    calls.call(seen.append, 7, deadline_s=10)
    assert seen == [7]

    def fails() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError):
        calls.call(fails, deadline_s=10)

    def times_out() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        calls.call(times_out, deadline_s=10)
    calls.call(seen.append, 8, deadline_s=10)
    assert seen == [7, 8]
    calls.close()


def test_a_call_that_hangs_is_left_behind_and_nothing_follows_it() -> None:
    calls, release = BoundedCalls("test"), threading.Event()

    def hangs() -> None:
        release.wait()

    with pytest.raises(StalledCallError):
        calls.call(hangs, deadline_s=0.05)
    with pytest.raises(StalledCallError, match="never returned"):
        calls.call(hangs, deadline_s=10)
    release.set()
    calls.close()


def test_what_a_call_returns_comes_back_and_the_caller_beats_meanwhile() -> None:
    calls, release, beats = BoundedCalls("test"), threading.Event(), []

    def beat() -> None:
        beats.append(threading.current_thread())
        if len(beats) == 3:
            release.set()

    assert calls.call(release.wait, 30, deadline_s=30, beat=beat)
    assert beats == [threading.current_thread()] * 3
    calls.close()


def test_a_beat_that_leaves_off_leaves_the_call_behind() -> None:
    calls, release = BoundedCalls("test"), threading.Event()

    def leave() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        calls.call(release.wait, deadline_s=30, beat=leave)
    with pytest.raises(StalledCallError, match="never returned"):
        calls.call(release.is_set, deadline_s=30)
    release.set()
    calls.close()


def test_a_call_that_was_begun_goes_on_while_its_caller_does_something_else() -> None:
    calls, release = BoundedCalls("test"), threading.Event()
    outcome = calls.start(release.wait, 30)
    with pytest.raises(StalledCallError, match="never returned"):
        calls.start(release.is_set)  # one at a time
    release.set()
    until = time.monotonic() + 30
    assert calls.finish(outcome, lambda: until)
    assert calls.call(release.is_set, deadline_s=30)
    calls.close()


def test_a_deadline_that_comes_nearer_holds() -> None:
    calls, release = BoundedCalls("test"), threading.Event()
    outcome = calls.start(release.wait)
    began_at, beats = time.monotonic(), []
    with pytest.raises(StalledCallError):
        calls.finish(outcome, lambda: began_at if beats else began_at + 3600, lambda: beats.append(1))
    release.set()
    calls.close()
