"""PROFILE: where the CPU time of ingest goes, as a flame graph.

The worker works off a backlog as in a comparison, and once it is warm py-spy looks at it from outside, some
hundred times a second: at Python's stacks, and at what C does below them only as far as Python called it.
"""

import re
import signal
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path

from loadtests.corpus import Corpus
from loadtests.draining import COLD_SHARE, Drained, watch
from loadtests.errors import LoadTestError
from pipeline.loadtest import site
from pipeline.loadtest.compare import OURS, committed, fill, worker
from pipeline.loadtest.show import LoadShow
from pipeline.local.leash import Leash
from pipeline.local.process import spawn
from pipeline.settings import Settings

SAMPLES_A_SECOND = 200
MOST_S = 600
"""So long py-spy looks at most: it is told to end before."""
END_S = 60.0
TITLE = "CPU time of ingest by function, while it works off a backlog"
TITLED = re.compile(r'(<text id="title"[^>]*>)[^<]*(</text>)')
"""What py-spy writes above is its own command line."""


class Profiler:
    """py-spy beside a process. Raises LoadTestError where it cannot look, with what it said."""

    def __init__(self, py_spy: Path, pid: int, out: Path, log: Path) -> None:
        if not py_spy.is_file():
            raise LoadTestError(f"there is no {py_spy}: `make profile` fetches it")
        self._out, self._log, self._leash = out, log, Leash()
        argv = [
            str(py_spy), "record", "--pid", str(pid), "--output", str(out), "--format", "flamegraph",
            "--rate", str(SAMPLES_A_SECOND), "--duration", str(MOST_S), "--nonblocking", "--function",
        ]  # fmt: skip
        self._process = spawn(argv, log, leash=self._leash)

    def close(self) -> None:
        """End it; its picture is written then."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._leash.release()
        if not self._out.exists():
            said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise LoadTestError(f"py-spy drew nothing: {said[-1] if said else 'it said nothing'}")
        drawn = self._out.read_text(encoding="utf-8")
        self._out.write_text(TITLED.sub(rf"\g<1>{TITLE}\g<2>", drawn, count=1), encoding="utf-8")


def profile(settings: Settings, corpus: Corpus, show: LoadShow, py_spy: Path, out: Path) -> Drained:
    """Let ingest work a corpus off, and draw into `out` where its time goes meanwhile."""
    count = len(corpus.index)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    settings = settings.model_copy(update={"log_name": corpus.header.log_name})
    with site.temporary(settings, stages=(), on_step=show.step) as stack:
        site.enrol(stack.settings, corpus, show.step)
        show.say("filling the raw topics")
        fill(stack.target(), corpus)
        with (
            worker(stack.settings, "ingest") as pid,
            closing(committed(stack.target())) as done,
            ExitStack() as looking,
        ):
            log = stack.settings.data_dir / "run" / "py-spy.log"
            began = False

            def on_progress(judged: int) -> None:
                nonlocal began
                show.step(f"{judged * 100 // count} % of {count:,}")
                if not began and judged >= COLD_SHARE * count:
                    began = True
                    looking.enter_context(closing(Profiler(py_spy, pid, out, log)))

            drained = watch(
                OURS, lambda: {OURS: pid}, stack.pids().get("kafka"), done.total, count, on_progress
            )
            if not began:
                raise LoadTestError(f"{count:,} records are worked off before anybody can look: take more")
        return drained
