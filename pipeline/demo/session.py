"""Around the demo: a folder, a stack that is gone afterwards whatever happens, and the last words.

A finished run leaves nothing behind, unless it was asked to keep the stack or failed: then the folder stays,
for whoever wants to look. An interrupted run leaves nothing at all.
"""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from loadtests.attacks import ATTACKS
from pipeline.demo.report import show_result
from pipeline.demo.run import Demo, DemoOptions
from pipeline.demo.show import Show
from pipeline.demo.subscribers import subscribed
from pipeline.local.stack import LocalStack
from pipeline.settings import Settings


@contextmanager
def folder(data_dir: Path | None) -> Iterator[Path]:
    """Give the data folder; a temporary one is removed when the block is interrupted."""
    if data_dir is not None:
        yield data_dir
        return
    made = Path(tempfile.mkdtemp(prefix="attestream-demo-"))
    try:
        yield made
    except KeyboardInterrupt:
        shutil.rmtree(made, ignore_errors=True)
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what is open is closed."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def play(settings: Settings, options: DemoOptions, report: Path | None, show: Show) -> bool:
    """Run the demo on a stack of its own and tell the result; True when all is well."""
    show.intro(
        options.devices,
        options.seconds,
        len(ATTACKS) if options.attacks else 0,
        f"{settings.data_dir} [dim](seed {options.seed})[/]",
    )
    stack = LocalStack(settings)
    stack.check_free()
    with subscribed(settings) as subscribers:
        try:
            _start(stack, show)
            result = Demo(settings, options, show, stack, subscribers).run()
        finally:
            stack.stop()
    show_result(show, result)
    if report is not None:
        result.write(report)
        show.say(f"[dim]report in {report}[/]")
    return result.ok


def keep_up(settings: Settings, show: Show) -> None:
    """Leave a stack up on the same folder and say how to go on with it."""
    stack = LocalStack(settings, detached=True)
    _start(stack, show, "Bringing the stack up again, to stay")
    where = f"--data-dir {settings.data_dir}"
    show.say(f"look at it    attestream status {where}", indent=2)
    show.say(f"see alerts    attestream tail alerts {where}", indent=2)
    show.say(f"take it down  attestream down {where}", indent=2)


def _start(stack: LocalStack, show: Show, title: str = "Starting Kafka, the ledger and the stages") -> None:
    with show.phase(title) as phase:

        def on_download(done_bytes: int, total_bytes: int) -> None:
            if show.live:
                amount = f"{done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB"
            else:
                amount = f"{done_bytes * 10 // max(1, total_bytes) * 10} %"
            phase.update(f"fetching Apache Kafka, once: {amount}")

        stack.start(phase.update, on_download)
