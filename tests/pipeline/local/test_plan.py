"""Which stages the local stack starts: route and deliver only where somebody is subscribed, or by name."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.local.plan import Choice, local_plan
from pipeline.local.process import ProcessId
from pipeline.local.stackfile import StackFile
from pipeline.local.supervisor import Await, Start
from pipeline.settings import Settings

ALWAYS = ["ingest", "profile", "seal", "anchor", "correlate", "monitor"]


@pytest.mark.parametrize(
    ("is_subscribed", "named", "started"),
    [
        (False, None, ALWAYS),
        (True, None, [*ALWAYS[:5], "route", "deliver", "monitor"]),
        (False, ("deliver",), ["deliver"]),
    ],
)
def test_stages_of_the_plan(
    is_subscribed: bool, named: tuple[str, ...] | None, started: list[str], tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, bootstrap_servers="there:9092", ledger_nodes={"0.0.3": "there:1"})
    if is_subscribed:
        (tmp_path / "parties.note").touch()
    with ExitStack() as resources:
        plan = local_plan(
            settings, Choice(stages=named), StackFile(tmp_path, ProcessId.of(os.getpid())), resources
        )
    awaited = {step.title: step for step in plan if isinstance(step, Await)}
    assert [spec.name for spec in awaited["starting the stages"].specs] == started
    begun = [spec.name for step in plan if isinstance(step, Start) for spec in step.specs]
    assert begun == started, "each is started once, before it is waited for"


def test_more_workers_of_ingest_are_slots_of_their_own(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, bootstrap_servers="there:9092", ledger_nodes={"0.0.3": "there:1"})
    with ExitStack() as resources:
        choice = Choice(stages=("ingest", "seal"), workers=3)
        plan = local_plan(settings, choice, StackFile(tmp_path, ProcessId.of(os.getpid())), resources)
    begun = [spec.name for step in plan if isinstance(step, Start) for spec in step.specs]
    assert begun == ["ingest", "ingest-1", "ingest-2", "seal"]
