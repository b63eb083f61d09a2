"""A supervisor over dummy processes: `dummy_supervisor.py RUN_DIR NAME=KIND[,NAME=KIND] ...`

Every argument after the first is a group; one that ends in `+` is started and not waited for, until the end.
Kinds: see `dummy_stage.py`; `plain` is a program that knows nothing of leashes and health files and sleeps,
as a JVM would.
"""

import sys
from pathlib import Path

from pipeline.local.spec import ProcessSpec, Verdict, health_file
from pipeline.local.supervisor import Await, Plan, Start, Supervisor

STAGE = str(Path(__file__).with_name("dummy_stage.py"))


def spec(run_dir: Path, name: str, kind: str) -> ProcessSpec:
    if kind == "plain":
        return ProcessSpec(
            name,
            lambda _failures: ["/bin/sleep", "600"],
            lambda _pid: Verdict(ready=True, well=True, state="running"),
        )
    health = run_dir / f"{name}.health.json"
    argv = [sys.executable, STAGE, kind, str(health), str(run_dir / "order.txt"), name]
    return ProcessSpec(name, lambda _failures: argv, health_file(health), stop_grace_s=1)


def main() -> int:
    run_dir = Path(sys.argv[1])
    return Supervisor(run_dir, plan(run_dir, sys.argv[2:])).run()


def plan(run_dir: Path, groups: list[str]) -> Plan:
    items: list[Start | Await] = []
    early: list[ProcessSpec] = []
    for text in groups:
        specs = [spec(run_dir, *item.split("=")) for item in text.removesuffix("+").split(",")]
        items.append(Start(specs))
        if text.endswith("+"):
            early += specs
        else:
            items.append(Await(text, specs))
    return [*items, Await("the early ones", early)]


if __name__ == "__main__":
    sys.exit(main())
