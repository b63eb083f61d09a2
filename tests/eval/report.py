"""The result for people: tables in Markdown, recall by strength as a plot, both from a stored document."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import svgplot
from tests.eval import results

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT, PLOT = DOCS / "detectors.md", DOCS / "detectors-recall.svg"
SECTION = re.compile(r"(?<=^<!-- evaluation -->\n).*?(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)
PANEL_PX, COLUMNS = (250, 140), 3
GOAL = 0.9
OURS = "these rules"

Document = Mapping[str, Any]


def section(document: Document) -> str:
    """The generated part of docs/detectors.md."""
    told = (
        f"False alarms of all rules: **{document['false_alarms_per_device_day']:.2f} per device-day** "
        f"(over {document['clean']['device_days']:.2f}). "
        f"Least recall at a detectable strength: **{document['min_recall']:.2f}**. "
        f"CPU: {document['cpu_us_per_event']:.1f} us an event of eight signals, while a step of a plain "
        f"Python loop took {document['loop_ns']} ns. "
        f"{document['trials']} trials for each strength, seed {document['seed']}."
    )
    return "\n".join(
        (
            told,
            "",
            *by_anomaly(document),
            "",
            *by_rule(document),
            *baselines(document),
            "",
            f"![Recall by strength]({PLOT.name})",
            "",
        )
    )


def by_anomaly(document: Document) -> list[str]:
    """One line for each anomaly, at its detectable strength; and from which strength on recall is 0.9."""
    lines = [
        "| anomaly | detectable from | precision | recall | delay | recall 0.9 from | found by |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in document["anomalies"].items():
        grade = next(each for each in found["grades"] if each["strength"] == found["detectable"])
        reached = [
            each["strength"]
            for at, each in enumerate(found["grades"])
            if all(later["recall"] >= GOAL for later in found["grades"][at:])
        ]
        by = ", ".join(f"`{rule}` {share:.2f}" for rule, share in list(grade["rules"].items())[:3])
        lines.append(
            f"| `{name}`: {found['what']} | {found['detectable']:g} {found['unit']} "
            f"| {_share(grade['precision'])} | {_share(grade['recall'])} | {_time(grade['delay_s'])} "
            f"| {f'{reached[0]:g}' if reached else 'not reached'} | {by or 'nothing'} |"
        )
    return lines


def by_rule(document: Document) -> list[str]:
    """One line for each rule that said anything."""
    lines = [
        "| rule | precision | recall | delay | false alarms per device-day |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{rule}` | {_share(found['precision'])} | {_share(found['recall'])} | {_time(found['delay_s'])} "
        f"| {found['false_alarms_per_device_day']:.2f} |"
        for rule, found in document["rules"].items()
    ]
    return lines


def baselines(document: Document) -> list[str]:
    """Recall of the baselines at the same false-alarm rate; nothing where they were not run."""
    compared = document.get("baselines")
    if not compared:
        return []
    names, methods = list(compared["methods"]), list(compared["methods"].values())
    ours = compared["ours"]
    lines = [
        "",
        "Each anomaly at its detectable strength, at the same false-alarm rate / with one more in the half:",
        "",
        "| recall of | " + " | ".join([OURS, *names]) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for anomaly, own in ours["recall"].items():
        pairs = [(each["recall"][anomaly], each["lenient"]["recall"][anomaly]) for each in methods]
        shown = [
            " / ".join(f"**{each:.2f}**" if each > own else f"{each:.2f}" for each in pair) for pair in pairs
        ]
        lines.append(" | ".join([f"| `{anomaly}`", f"{own:.2f}", *shown]) + " |")
    for title, name in (
        ("mean", "mean_recall"),
        ("false alarms per device-day", "false_alarms_per_device_day"),
    ):
        shown = [f"{each[name]:.2f} / {each['lenient'][name]:.2f}" for each in methods]
        lines.append(" | ".join([f"| {title}", f"{ours[name]:.2f}", *shown]) + " |")
    cpu = [f"{each['cpu_us_per_event']:.1f}" for each in (ours, *methods)]
    lines.append(" | ".join(["| CPU per event, us", *cpu]) + " |")
    return lines


def plot(document: Document) -> str:
    """Recall by strength, one panel for each anomaly, weakest strength left; the detectable one is marked."""
    width, height = PANEL_PX
    parts = []
    for number, (name, found) in enumerate(document["anomalies"].items()):
        grades: Sequence[Document] = found["grades"]
        places = [(float(at), f"{each['strength']:g}") for at, each in enumerate(grades)]
        panel = svgplot.Panel(
            svgplot.Axis(-0.2, len(grades) - 0.8, places),
            svgplot.Axis(0.0, 1.0, [(each, f"{each:g}") for each in (0.0, 0.5, GOAL)]),
            width=width,
            height=height,
            title=f"{name} ({found['unit']})"[:40],
        )
        detectable = [each["strength"] for each in grades].index(found["detectable"])
        panel.mark(detectable, svgplot.COLOURS[1], f"detectable from {found['detectable']:g} {found['unit']}")
        panel.line([(at, each["recall"]) for at, each in enumerate(grades)], svgplot.COLOURS[0], dots=True)
        parts.append(panel.placed(number % COLUMNS * width, number // COLUMNS * height))
    rows = -(-len(document["anomalies"]) // COLUMNS)
    return svgplot.drawing(parts, COLUMNS * width, rows * height, "Recall by strength of each anomaly")


def with_section(text: str, document: Document) -> str:
    """The documentation with its generated part made anew; raises ValueError where it has no such part."""
    if not SECTION.search(text):
        message = f"{DOCUMENT.name} has no section between <!-- evaluation --> and <!-- end -->"
        raise ValueError(message)
    return SECTION.sub(lambda _found: section(document), text)


def store(document: Document) -> None:
    """Keep a run as the one that the documentation shows, and write that."""
    results.write(document, results.STORED)
    text = with_section(DOCUMENT.read_text(encoding="utf-8"), document)
    DOCUMENT.write_text(text, encoding="utf-8")
    PLOT.write_text(plot(document), encoding="utf-8")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
