"""The supervisor's process: `python -m pipeline.local DATA_DIR [KAFKA_PORT]`; settings by environment."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from pipeline.local.errors import StackBusyError
from pipeline.local.jars import locked
from pipeline.local.plan import local_plan
from pipeline.local.process import ProcessId
from pipeline.local.stackfile import StackFile
from pipeline.local.supervisor import Supervisor
from pipeline.settings import PipelineError, Settings


def main(arguments: list[str]) -> int:
    """Own the data directory, make the plan, run it."""
    data_dir = Path(arguments[0]).resolve()
    kafka_port = int(arguments[1]) if len(arguments) > 1 else None
    settings = Settings(data_dir=data_dir)
    try:
        with ExitStack() as resources:
            try:
                resources.enter_context(locked(data_dir / "run" / "supervisor.lock", wait=False))
            except BlockingIOError as error:
                raise StackBusyError(f"another supervisor runs {data_dir} already") from error
            stack_file = StackFile(data_dir, ProcessId.of(os.getpid()))
            resources.enter_context(stack_file.published())
            plan = local_plan(settings, stack_file, resources, kafka_port)
            return Supervisor(data_dir / "run", plan).run()
    except PipelineError as error:
        print(error, file=sys.stderr)  # noqa: T201 - its log is what `up` shows
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
