"""A flame graph is drawn of the warm part, and who cannot draw one says why."""

import sys
from pathlib import Path

import pytest

from loadtests.errors import LoadTestError
from pipeline.loadtest.profiling import TITLE, Profiler

DRAWN = '<svg><text id="title" x="50%">/home/me/py-spy record</text><text>all</text></svg>'
DRAWS = f"""
import pathlib, signal, sys
DRAWN = {DRAWN!r}
out = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
assert sys.argv[1] == "record" and sys.argv[sys.argv.index("--pid") + 1] == "4711"
signal.signal(signal.SIGINT, lambda *_: (out.write_text(DRAWN), sys.exit(0)))
print("ready", flush=True)
while True:
    signal.pause()
"""
REFUSES = """
import sys
sys.exit("Error: Permission Denied: Try running again with elevated permissions")
"""


def stand_in(tmp_path: Path, text: str) -> Path:
    """A program in py-spy's place: what it is told, and how it ends."""
    path = tmp_path / "py-spy"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o700)
    return path


def test_it_looks_at_the_process_until_it_is_told_to_end(tmp_path: Path) -> None:
    out, log = tmp_path / "flames.svg", tmp_path / "log"
    profiler = Profiler(stand_in(tmp_path, DRAWS), 4711, out, log)
    while "ready" not in log.read_text():
        assert profiler._process.poll() is None, log.read_text()
    profiler.close()
    # Whose folders they are is nobody's business who is shown the picture.
    assert out.read_text() == f'<svg><text id="title" x="50%">{TITLE}</text><text>all</text></svg>'
    assert profiler._process.returncode == 0


def test_who_may_not_look_says_why(tmp_path: Path) -> None:
    profiler = Profiler(stand_in(tmp_path, REFUSES), 1, tmp_path / "out.svg", tmp_path / "log")
    profiler._process.wait()
    with pytest.raises(LoadTestError, match="Permission Denied"):
        profiler.close()


def test_a_program_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(LoadTestError, match="there is no"):
        Profiler(tmp_path / "none", 1, tmp_path / "out.svg", tmp_path / "log")
