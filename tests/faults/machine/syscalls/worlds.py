"""Worlds for one stage: a fresh one for every run, runs in lanes beside each other, and who judges them."""

import base64
import json
import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.faults.machine.ledger import Violation
from tests.faults.machine.oracle.formats import Partition
from tests.faults.machine.syscalls import checks
from tests.faults.machine.syscalls.disk import Image, write_image
from tests.faults.machine.syscalls.outside import MARK_OUTSIDE, PUBLISHED, cut_outside, read_lines
from tests.faults.machine.syscalls.server import RunServer
from tests.faults.machine.syscalls.shim import Kind
from tests.faults.machine.syscalls.stages import EPOCH, EVENT, PLAN, REJECT, prepare, record_at

LANES = 2
Job = Callable[[RunServer], list[Violation]]


def expected_roots() -> dict[Partition, checks.Roots]:
    """Of the topics whose records are the same in every run."""
    return {
        place: checks.roots_of(record_at(place[0], at) for at in range(PLAN[-1][column]))
        for column, place in enumerate((EVENT, REJECT))
    }


@dataclass(slots=True)
class Tally:
    """What was done and found."""

    points: dict[str, int] = field(default_factory=dict)
    """By kind of call, as the counting run had them."""
    runs: int = 0
    struck: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    images: int = 0
    resumed: int = 0
    violations: list[Violation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, found: Sequence[Violation]) -> None:
        """Take up what was found."""
        with self._lock:
            self.violations += found

    def add_run(self, struck: int, ending: str) -> None:
        """A run in which a fault struck so often, and how it ended."""
        with self._lock:
            self.runs, self.struck = self.runs + 1, self.struck + struck
            self.endings[ending] += 1

    def add_image(self) -> None:
        """What a power cut left was looked at."""
        with self._lock:
            self.images += 1

    def add_resumed(self) -> None:
        """The stage went on from it."""
        with self._lock:
            self.resumed += 1


class Worlds:
    """A context manager: lanes of run servers, and a template that every world begins as."""

    def __init__(self, stage: str, folder: Path, broken: str = "") -> None:
        self.stage, self.folder, self.tally, self._broken = stage, folder, Tally(), broken
        prepare(folder / "template")
        self._fixed = expected_roots()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            lanes = [RunServer(self.folder / f"lane-{number}") for number in range(LANES)]
            self._servers = [stack.enter_context(lane) for lane in lanes]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fresh(self, name: str) -> Path:
        """Make a world in which nothing has happened."""
        world = self.folder / name
        shutil.rmtree(world, ignore_errors=True)
        shutil.copytree(self.folder / "template", world)
        return world

    def run(self, server: RunServer, world: Path) -> int:
        """Run the stage; its exit code."""
        return server.run(self.stage, world, self._broken)

    def count(self, trace: Path | None = None) -> dict[Kind, int]:
        """Run without a fault, in the world `count`; how many calls there are of each kind."""
        server, world = self._servers[0], self.fresh("count")
        if trace is not None:
            trace.unlink(missing_ok=True)  # the shim appends, and that of another counting run is another's
        server.shim.arm(world / "data", outside=world / "data" / "run", trace=trace)
        code = self.run(server, world)
        counts = server.shim.counts
        server.shim.disarm()
        self.tally.points = {kind.name.lower(): number for kind, number in counts.items()}
        self.tally.add(self.judge(world).ended(code, "the counting run"))
        return counts

    def each(self, jobs: Iterable[Job]) -> None:
        """Do all jobs, in lanes; what they find is tallied."""
        waiting, lock = iter(jobs), threading.Lock()

        def lane(server: RunServer) -> None:
            while True:
                with lock:
                    job = next(waiting, None)
                if job is None:
                    return
                try:
                    found = job(server)
                except Exception as error:
                    # A lane that dies must not pass for a clean one.
                    found = [Violation("machine", f"{error!r}")]
                self.tally.add(found)

        threads = [threading.Thread(target=lane, args=(server,)) for server in self._servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def judge(self, world: Path, marks: Sequence[str] | None = None) -> "Judge":
        """Who judges this world; with `marks`, as of the moment at which they were all that there was."""
        if self.stage == "seal":
            return SealJudge(world, marks, self._fixed)
        return AnchorJudge(world, marks)


class Judge(ABC):
    """Knows what was told to others, and holds what is there to it."""

    def __init__(self, world: Path, marks: Sequence[str] | None) -> None:
        self._world, self._marks = world, marks

    @abstractmethod
    def look(self, what: str) -> list[Violation]:
        """At the folders as they are."""

    @abstractmethod
    def look_at_image(self, image: Image, what: str) -> list[Violation]:
        """At what a power cut left."""

    @abstractmethod
    def ended(self, code: int, what: str) -> list[Violation]:
        """At the end of the last run, when all must be done."""


class SealJudge(Judge):
    """Published logs."""

    def __init__(
        self, world: Path, marks: Sequence[str] | None, fixed: dict[Partition, checks.Roots]
    ) -> None:
        super().__init__(world, marks)
        trust = json.loads((world / "data" / "trust.json").read_text())
        name, key = trust["log_name"], base64.b64decode(trust["log_key"])
        entries = [base64.b64decode(row[1]) for row in read_lines(world, "log.checkpoints")]
        self._log = checks.LogWitness(name, key, {**fixed, EPOCH: checks.Roots(entries)})
        self._told = 0

    def look(self, what: str) -> list[Violation]:
        base = self._world / "data" / "log"
        return self.look_with(lambda p: checks.files_below(base / p[0] / str(p[1])), what)

    def look_at_image(self, image: Image, what: str) -> list[Violation]:
        base = self._world / "data" / "log"

        def reader(place: Partition) -> checks.Read:
            return lambda path: image.get(str(base / place[0] / str(place[1]) / path))

        return self.look_with(reader, what)

    def look_with(self, reader: Callable[[Partition], checks.Read], what: str) -> list[Violation]:
        """At the folders, however they are read."""
        return self._note() + self._log.look(what, reader)

    def ended(self, code: int, what: str) -> list[Violation]:
        rows = read_lines(self._world, "log.checkpoints")
        self._log.epoch_is(checks.Roots(base64.b64decode(row[1]) for row in rows))
        found = _crashed(code, what) + self.look(f"{what}, at the end")
        return found + self._log.stalled(what)

    def _note(self) -> list[Violation]:
        """Take up what was published since: each a prefix of the next, and never to be gone again."""
        lines = self._lines(PUBLISHED)
        new, self._told = lines[self._told :], len(lines)
        found = self._log.note(new)
        self._log.claim(base64.b64decode(row[1]) for row in self._lines(EPOCH[0]))
        return found

    def _lines(self, name: str) -> list[Any]:
        lines = read_lines(self._world, name)
        return lines if self._marks is None else lines[: self._marks.count(MARK_OUTSIDE + name)]


class AnchorJudge(Judge):
    """Ledger, database, and what was said of both."""

    def look(self, what: str) -> list[Violation]:
        with tempfile.TemporaryDirectory(dir=self._world) as folder:
            # As the kill left them, opened by somebody else.
            for file in (self._world / "data" / "state" / "anchor" / "0").glob("anchor.sqlite*"):
                shutil.copy(file, folder)
            return checks.check_anchor(self._world, what, Path(folder) / "anchor.sqlite")

    def look_at_image(self, image: Image, what: str) -> list[Violation]:
        with tempfile.TemporaryDirectory(dir=self._world) as name:
            folder = Path(name)
            write_image(image, self._world / "data", folder / "data")
            (folder / "outside").mkdir()
            cut_outside(self._world, folder, self._marks or ())
            database = folder / "data" / "state" / "anchor" / "0" / "anchor.sqlite"
            return checks.check_anchor(folder, what, database)

    def ended(self, code: int, what: str) -> list[Violation]:
        return _crashed(code, what) + self.look(what) + checks.anchor_stalled(self._world, what)


def _crashed(code: int, what: str) -> list[Violation]:
    return [] if code == 0 else [Violation("crash", f"{what}: the last run ended with {code}")]
