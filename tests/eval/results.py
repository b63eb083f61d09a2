"""From counts to one document: by rule, by anomaly, and the few figures that decide."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.eval.adapter import Cpu
from tests.eval.anomalies import ANOMALIES
from tests.eval.trials import CleanRun, Grade

STORED = Path(__file__).with_name("result.json")
"""The run that docs/detectors.md shows."""


def at_detectable(results: Mapping[str, Sequence[Grade]]) -> dict[str, Grade]:
    """Each anomaly's grade at its documented detectable strength."""
    return {
        name: next(each for each in grades if each.strength == ANOMALIES[name].detectable)
        for name, grades in results.items()
    }


def summary(
    results: Mapping[str, Sequence[Grade]],
    clean: CleanRun,
    *,
    cpu: Cpu,
    trials: int,
    seed: int,
    config: str,
) -> dict[str, Any]:
    """The document of a run; all times in seconds, shares from 0 to 1, null where nothing was found."""
    at_strength = at_detectable(results)
    return {
        "false_alarms_per_device_day": round(clean.per_device_day, 3),
        "min_recall": min(round(each.recall, 3) for each in at_strength.values()),
        "cpu_us_per_event": round(cpu.us_per_event, 2),
        "loop_ns": round(cpu.loop_ns),
        "rules": _rules(at_strength, clean),
        "anomalies": {
            name: {
                "what": ANOMALIES[name].what,
                "unit": ANOMALIES[name].unit,
                "detectable": ANOMALIES[name].detectable,
                "grades": [_grade(each) for each in grades],
            }
            for name, grades in results.items()
        },
        "clean": {"device_days": round(clean.device_days, 3), "false_alarms": dict(clean.by_rule)},
        "trials": trials,
        "seed": seed,
        "config": config,
    }


def _grade(grade: Grade) -> dict[str, Any]:
    return {
        "strength": grade.strength,
        "precision": _rounded(grade.precision),
        "recall": round(grade.recall, 3),
        "delay_s": _rounded(grade.delay_s, 1),
        "rules": {
            rule: round(count / grade.trials, 3)
            for rule, count in sorted(grade.trials_by_rule.items(), key=lambda item: (-item[1], item[0]))
        },
    }


def _rules(at_strength: Mapping[str, Grade], clean: CleanRun) -> dict[str, dict[str, Any]]:
    """By rule, over all anomalies at their detectable strength.

    A rule answers for the anomalies that it finds more often than any other rule does (for the one that it
    finds best, where it leads nowhere): that is its recall and delay. Its precision is over all trials, so
    what it finds of any anomaly is right. An anomaly that nobody finds stands under its own name.
    """
    leaders: dict[str, list[Grade]] = {}
    for name, grade in at_strength.items():
        leaders.setdefault(_leader(grade) or name, []).append(grade)
    seen = {rule for grade in at_strength.values() for rule in (*grade.trials_by_rule, *grade.false_by_rule)}
    for rule in sorted(seen - leaders.keys()):
        best = max(at_strength.values(), key=lambda each: each.trials_by_rule[rule] / each.trials)
        leaders[rule] = [best]
    rules = {}
    for rule, own in sorted(leaders.items()):
        right = sum(each.trials_by_rule[rule] for each in at_strength.values())
        wrong = sum(each.false_by_rule[rule] for each in at_strength.values())
        delays = sorted(delay for each in own for delay in each.delays_by_rule.get(rule, ()))
        rules[rule] = {
            "precision": round(right / (right + wrong), 3) if right + wrong else None,
            "recall": round(
                sum(each.trials_by_rule[rule] for each in own) / sum(each.trials for each in own), 3
            ),
            "delay_s": round(delays[len(delays) // 2], 1) if delays else None,
            "false_alarms_per_device_day": round(clean.by_rule[rule] / clean.device_days, 3),
        }
    return rules


def _leader(grade: Grade) -> str | None:
    found = grade.trials_by_rule
    return min(found, key=lambda rule: (-found[rule], rule)) if found else None


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def write(document: Mapping[str, Any], path: Path) -> None:
    """Write a document as JSON, one that reads well in a difference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def stored() -> dict[str, Any]:
    """The run that the documentation shows."""
    document: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return document
