"""The report of load tests: one HTML page that needs nothing else, with curves as SVG.

No script, no font, no network (a policy in it forbids them); light and dark as the reader's system is. All
that comes from a result is escaped.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from pipeline import svgplot
from pipeline.loadtest.reportstyle import COLOURS, POLICY, STYLE
from pipeline.loadtest.resultmodel import LegResult, Result
from pipeline.svgplot import Axis, Panel, Point

WIDTH_PX, HEIGHT_PX = 960, 260
MOST_POINTS = 2000
LEGS = ("published", "accepted", "checkpoint", "anchored", "alert")
NINES = ((0.0, "0 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %"), (5.0, "99.999 %"))
DASHES = ("", "6 3", "2 3")


def page(results: Sequence[Result], title: str, more: Sequence[str] = ()) -> str:
    """Return the whole page; `more` are sections that somebody else has made, as HTML."""
    body = [f"<h1>{escape(title)}</h1>", *more]
    curve = _rate_latency(results)
    if curve:
        body += ["<h2>Rate and latency</h2>", _RATE_SAYS, curve]
    for number, result in enumerate(results, 1):
        body += _run(result, number if len(results) > 1 else 0)
    if results:
        body += ["<h2>Machine and versions</h2>", _machine(results[-1])]
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            *body,
            "</body></html>",
            "",
        )
    )


_RATE_SAYS = (
    "<p>99th percentile from the moment at which a record was meant to be sent until it was accepted and "
    "visible, by rate. A rate that is not sustained has a latency only as long as one waits: it grows.</p>"
)


def _run(result: Result, number: int) -> list[str]:
    began = datetime.fromtimestamp(min(max(result.began, 0), 4e9), UTC)
    head = f"Run {number}: {result.workload}" if number else result.workload
    parts = [
        f"<h2>{escape(head)}</h2>",
        f"<p>{began:%Y-%m-%d %H:%M} UTC, {result.seconds:,.1f} s.</p>",
        f"<pre>{escape(result.summary)}</pre>",
        "<h3>Ledger</h3>",
        _ledger(result.ledger),
        "<h3>Latency of each leg</h3>",
        _legs(result.legs),
        _percentiles(result),
    ]
    if result.lag:
        parts += ["<h3>What waits</h3>", _lag(result)]
    if result.processes:
        parts += ["<h3>Processes</h3>", _stages(result), _cpu(result), _memory(result)]
    return parts


# ---- curves ------------------------------------------------------------------------------------------------


def _rate_latency(results: Sequence[Result]) -> str:
    """The p99 of each rate that was tried; empty where there is only one."""
    points = {
        (each.target_rate, leg.p99) for each in results if (leg := each.legs.get("accepted")) and leg.p99
    }
    good, bad = {each for each in points if each[0] > 0}, set[tuple[float, float]]()
    objective = 0.0
    for result in results:
        if result.find_max is not None:
            objective = result.find_max.objective_ms
            for trial in result.find_max.trials:
                if trial.p99_ms > 0:
                    (good if trial.sustained else bad).add((trial.rate, trial.p99_ms))
    if len(good | bad) < 2:
        return ""
    rates = [rate for rate, _ in good | bad]
    panel = _panel(
        Axis(0.0, max(rates) * 1.05, [(each, f"{each:,.0f}") for each in svgplot.ticks(0, max(rates), 8)]),
        _log_axis([ms for _, ms in good | bad] + ([objective] if objective else [])),
        "p99 until accepted, ms, by records/s",
    )
    panel.line([(rate, _log(ms)) for rate, ms in sorted(good)], COLOURS[0], dots=True)
    for rate, ms in sorted(bad):
        panel.line([(rate, _log(ms))] * 2, COLOURS[1], dots=True)
    names = [("sustained", COLOURS[0])]
    names += [("not sustained", COLOURS[1])] if bad else []
    if objective:
        panel.line([(0.0, _log(objective)), (max(rates) * 1.05, _log(objective))], COLOURS[4], dash="4 3")
        names.append(("objective", COLOURS[4]))
    return _drawn(panel, names, "Latency by rate")


def _percentiles(result: Result) -> str:
    """Latency against the number of nines, both logarithmic."""
    lines = []
    for name in LEGS:
        steps = result.quantiles.get(name, {})
        points = sorted((_nines(float(at)), _log(ms)) for at, ms in steps.items() if _is_percentile(at))
        if points and name in result.legs:
            lines.append((result.legs[name].title, points))
    if not lines:
        return ""
    values = [10**y for _, points in lines for _, y in points]
    panel = _panel(Axis(0.0, 5.25, NINES), _log_axis(values), "latency, ms, by percentile")
    for (_, points), colour in zip(lines, COLOURS, strict=False):
        panel.line(points, colour)
    names = [(title, colour) for (title, _), colour in zip(lines, COLOURS, strict=False)]
    return _drawn(panel, names, "Latency percentiles")


def _lag(result: Result) -> str:
    raw = [(at, float(waiting)) for at, waiting, _ in result.lag]
    unsealed = [(at, float(waiting)) for at, _, waiting in result.lag if waiting is not None]
    panel = _over_time([raw, unsealed], "records that wait, by seconds since the first was due")
    panel.line(_thinned(raw), COLOURS[0])
    panel.line(_thinned(unsealed), COLOURS[1], dash=DASHES[1])
    names = [("for ingest", COLOURS[0]), *([("for seal", COLOURS[1])] if unsealed else [])]
    return _drawn(panel, names, "Records that wait")


def _cpu(result: Result) -> str:
    lines = {name: list(zip(each.at_s, each.cores, strict=False)) for name, each in result.processes.items()}
    return _lines(lines, "CPU, cores, by seconds", "CPU of each process")


def _memory(result: Result) -> str:
    lines = {
        name: list(zip(each.at_s, each.rss_mib, strict=False)) for name, each in result.processes.items()
    }
    return _lines(lines, "resident memory, MiB, by seconds", "Memory of each process")


def _lines(lines: Mapping[str, list[Point]], heading: str, title: str) -> str:
    panel, names = _over_time(lines.values(), heading), []
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        panel.line(_thinned(points), colour, dash=DASHES[number // len(COLOURS) % len(DASHES)])
        names.append((name, colour))
    return _drawn(panel, names, title)


def _over_time(lines: Iterable[Sequence[Point]], title: str) -> Panel:
    points = [point for line in lines for point in line]
    first, last = min((x for x, _ in points), default=0.0), max((x for x, _ in points), default=1.0)
    most = max((y for _, y in points), default=0.0) * 1.05 or 1.0
    across = Axis(first, last, [(each, f"{each:g}") for each in svgplot.ticks(first, last, 10)])
    return _panel(
        across, Axis(0.0, most, [(each, f"{each:,.6g}") for each in svgplot.ticks(0, most, 5)]), title
    )


def _panel(x: Axis, y: Axis, title: str) -> Panel:
    return Panel(x, y, width=WIDTH_PX, height=HEIGHT_PX, title=title)


def _drawn(panel: Panel, names: Sequence[tuple[str, str]], title: str) -> str:
    legend = svgplot.legend(names, svgplot.LEFT_PX, HEIGHT_PX + 14)
    return svgplot.drawing([panel.placed(0, 0), legend], WIDTH_PX, HEIGHT_PX + 22, title)


def _log(ms: float) -> float:
    return math.log10(max(ms, 1e-3))


def _log_axis(values: Sequence[float]) -> Axis:
    low, high = math.floor(_log(min(values))), math.ceil(_log(max(values)))
    high = high if high > low else low + 1
    return Axis(low, high, [(each, f"{10.0**each:,g}") for each in range(low, high + 1)])


def _nines(percentile: float) -> float:
    return min(5.0, -math.log10(max(1e-5, 1 - percentile / 100)))


def _is_percentile(text: str) -> bool:
    try:
        return 0 <= float(text) <= 100
    except ValueError:
        return False


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    step = max(1, len(points) // MOST_POINTS)
    return points[::step]


# ---- tables ------------------------------------------------------------------------------------------------


def _ledger(ledger: Mapping[str, Any]) -> str:
    ok = ledger.get("ok") is True
    verdict = (
        "<b class=good>balances</b>: every record has one verdict, and the right one"
        if ok
        else "<b class=bad>does not balance</b>"
    )
    names = (
        "sent", "acknowledged", "accepted", "rejected", "rejected_as_expected", "lost", "unjudged",
        "duplicated", "altered", "out_of_order", "forgeries_accepted", "not_ours",
    )  # fmt: skip
    columns = [(name.replace("_", " "), _count(ledger.get(name))) for name in names]
    wrongly = ledger.get("rejected_wrongly")
    if isinstance(wrongly, dict):
        columns += [(f"rejected wrongly: {reason}", _count(count)) for reason, count in wrongly.items()]
    head, row = ("records", *(name for name, _ in columns)), ("", *(count for _, count in columns))
    return f"<p>The ledger {verdict}.</p>" + table(head, [row])


def _legs(legs: Mapping[str, LegResult]) -> str:
    rows = []
    for leg in legs.values():
        if leg.not_measured:
            rows.append((leg.title, f"not measured: {leg.not_measured}", *[""] * 7))
            continue
        figures = (leg.avg, leg.p50, leg.p95, leg.p99, leg.p999, leg.most)
        rows.append((leg.title, f"{leg.count:,}", *(_ms(each) for each in figures), f"{leg.missing:,}"))
    head = ("ms", "records", "mean", "p50", "p95", "p99", "p99.9", "max", "did not come so far")
    return table(head, rows)


def _stages(result: Result) -> str:
    rows = [
        (
            name,
            "" if stage.cores is None else f"{stage.cores:.2f}",
            "" if stage.cpu_us is None else f"{stage.cpu_us:,.1f} per {stage.of}",
            f"{stage.rss_mib:,.0f}",
        )
        for name, stage in result.stages.items()
    ]
    return table(("process", "cores, steady part", "CPU time, us", "most memory, MiB"), rows)


def _machine(result: Result) -> str:
    facts = {**result.machine, **{f"stack: {name}": value for name, value in result.stack.items()}}
    facts |= {f"corpus: {name}": value for name, value in result.corpus.items()}
    rows = []
    for name, value in facts.items():
        shown = (
            ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else value
        )
        rows.append((name.replace("_", " "), str(shown)[:1000]))
    return f'<div class="facts">{table(("", ""), rows)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a table; all columns but the first are of figures."""
    columns = "".join(f"<th>{escape(each)}</th>" for each in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    shown = f"<tr>{columns}</tr>" if any(head) else ""
    return f'<div class="wide"><table>{shown}{lines}</table></div>'


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
