"""The runbook speaks of what exists: its metrics, alerts, settings, commands, texts, sections and faults."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from prometheus_client import REGISTRY

import pipeline.metrics
from pipeline.cli.main import build
from pipeline.settings import Settings
from tests.faults.machine.faults import FAULTS
from tests.faults.machine.faults.ledger import LEDGER_FAULTS
from tests.faults.machine.faults.notify import NOTIFY_FAULTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
RULES = (ROOT / "deploy" / "prometheus" / "attestream.rules.yml").read_text(encoding="utf-8")
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("pipeline", "anchors", "processors")
    for path in sorted((ROOT / folder).rglob("*.py"))
)
SAID_BY_OTHERS = (
    # Kafka's client and broker, the operating system.
    "fetch failed due to requested offset not available on the broker", "requested offset not available",
    "Static consumer fenced by other consumer with same group.instance.id", "the log directory has failed",
    "No space left on device", "_TIMED_OUT",
)  # fmt: skip
_SPAN = re.compile(r"`([^`]+)`")
_FENCE = re.compile(r"```sh\n(.*?)```", re.DOTALL)
# What a health text has in the places of its parameters.
_PARAMETER = re.compile(r"…|\d+|[\w.]+\[\]|device\.events|killed by signal|ended with exit code")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """Return the cells of a section's tables, without their heads."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    assert lines, title
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "---" not in line]


def spans(text: str) -> list[str]:
    return _SPAN.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def commands() -> list[str]:
    blocks = "\n".join(_FENCE.findall(PAGE)).splitlines()
    lines = [line.partition(" # ")[0].strip() for line in blocks]
    return sorted({line for line in [*lines, *spans(PAGE)] if line.startswith("attestream ")})


def test_every_metric_is_there_and_told() -> None:
    known = set()
    for family in REGISTRY.collect():
        if family.name.startswith("attestream_"):
            known.add(f"{family.name}_total" if family.type == "counter" else family.name)
    assert pipeline.metrics.READY
    assert set(re.findall(r"attestream_[a-z_]+", PAGE)) == known


def test_every_alert_is_there_and_told() -> None:
    named = {name for row in rows("Alerts") for name in re.findall(r"Attestream\w+", row[0])}
    assert named == set(re.findall(r"alert: (\w+)", RULES))
    assert set(re.findall(r"Attestream[A-Z]\w+", PAGE)) == named


def test_every_setting_is_there_and_every_time_out_is_told() -> None:
    named = {name for row in rows("Time-outs that may be set") for name in spans(row[0])}
    assert named <= set(Settings.model_fields)
    assert {name for name in Settings.model_fields if name.endswith("_s")} <= named
    variables = re.findall(r"ATTESTREAM_([A-Z_]+)", PAGE)
    assert {name.lower() for name in variables} <= set(Settings.model_fields)


def test_the_defaults_are_those_of_the_settings() -> None:
    for row in rows("Time-outs that may be set"):
        names = spans(row[0])
        if len(names) == 1:
            assert float(row[1]) == Settings.model_fields[names[0]].default, names


@pytest.mark.parametrize("command", commands())
def test_every_command_can_be_given(command: str) -> None:
    words = shlex.split(command.replace("<data>", "/data"))[1:]
    if words == ["..."]:
        return
    found: Any = typer.main.get_command(build(words[0]))
    while hasattr(found, "commands"):
        name = words.pop(0)
        assert name in found.commands, f"{command}: no {name}"
        found = found.commands[name]
    found.make_context(found.name, words)  # parses, and runs nothing


@pytest.mark.parametrize("text", sorted({t for row in rows("Symptom index") for t in spans(row[0])}))
def test_every_symptom_is_said_by_the_code(text: str) -> None:
    for part in re.split(_PARAMETER, text):
        words = part.strip(" :;,")
        if len(words) > 3 and words not in SAID_BY_OTHERS:
            assert words in SOURCES, f"nobody says {words!r}"


def test_every_link_leads_to_a_section() -> None:
    titles = re.findall(r"^#{2,3} (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert len(anchors) == len(titles)
    assert set(re.findall(r"\(#([\w-]+)\)", PAGE)) <= anchors
    for page in re.findall(r"\((\w[\w./]*\.md)\)", PAGE):
        assert (ROOT / "docs" / page).exists()


def test_every_kind_of_fault_has_its_section() -> None:
    named = {name for row in rows("What the fault machine tries") for name in spans(row[0])}
    assert set(FAULTS) | set(LEDGER_FAULTS) | set(NOTIFY_FAULTS) <= named
