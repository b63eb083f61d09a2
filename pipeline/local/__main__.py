"""The supervisor's process: `python -m pipeline.local DATA_DIR CHOICE`, its settings by environment.

CHOICE is a `plan.Choice` as JSON.
"""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.local.errors import StackBusyError
from pipeline.local.jars import locked
from pipeline.local.plan import Choice, local_plan
from pipeline.local.process import ProcessId
from pipeline.local.stackfile import StackFile
from pipeline.local.supervisor import Supervisor
from pipeline.settings import PipelineError, Settings


def main(arguments: list[str]) -> int:
    """Own the data directory, make the plan, run it."""
    data_dir = Path(arguments[0]).resolve()
    choice = TypeAdapter(Choice).validate_json(arguments[1])
    settings = Settings(data_dir=data_dir)
    try:
        with ExitStack() as resources:
            try:
                resources.enter_context(locked(data_dir / "run" / "supervisor.lock", wait=False))
            except BlockingIOError as error:
                raise StackBusyError(f"another supervisor runs {data_dir} already") from error
            stack_file = StackFile(data_dir, ProcessId.of(os.getpid()))
            resources.enter_context(stack_file.published())
            plan = local_plan(settings, choice, stack_file, resources)
            return Supervisor(data_dir / "run", plan).run()
    except PipelineError as error:
        print(error, file=sys.stderr)  # noqa: T201 - its log is what `up` shows
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
