"""A stage in a process of its own, as a supervisor starts it."""

import os
import subprocess
import sys

from pipeline.settings import Settings


class Worker:
    """Starts at once; logs to `<stage>-<slot>.log` in the data folder."""

    def __init__(self, settings: Settings, stage: str, slot: int = 0) -> None:
        self.settings, self.stage, self.slot = settings, stage, slot
        self.log = settings.data_dir / f"{stage}-{slot}.log"
        self.start()

    def start(self) -> None:
        given = self.settings.model_dump(mode="json", exclude_defaults=True)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ATTESTREAM_")},
            **{f"ATTESTREAM_{name.upper()}": str(value) for name, value in given.items()},
        }
        command = [
            sys.executable,
            "-P",
            "-m",
            "pipeline.cli.main",
            "run",
            self.stage,
            "--slot",
            str(self.slot),
        ]
        with self.log.open("ab") as stderr:
            self.process = subprocess.Popen(command, env=environment, stderr=stderr)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)
