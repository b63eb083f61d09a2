"""A recording as one HTML page: every signal plotted, with the findings on it and in a table.

The page needs nothing else: no script, no font, no network (a policy in it forbids them). All that comes from
a record is escaped. Unlike findings, it shows measured values, so it is to be handled as patient data.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

from pipeline import svgplot
from pipeline.detectreplay import Recording, Track
from schemas.mdc import BY_CODE, label
from schemas.records import SEVERITY_RANK, Finding, FindingStatus, Severity

WIDTH_PX, HEIGHT_PX = 1000, 130
MAX_DEVICES = 40
"""So many devices are drawn, those with findings first."""
MAX_SIGNALS = 32
MAX_LISTED = 1000
_GAP = 5  # times the usual distance of two samples: further apart, no line joins them
_COLOURS = {
    Severity.INFORMATIONAL: "#64748b",
    Severity.LOW: "#0891b2",
    Severity.MEDIUM: "#d97706",
    Severity.HIGH: "#dc2626",
    Severity.CRITICAL: "#7f1d1d",
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1040px;padding:0 1rem;color:#1e293b}"
    "table{border-collapse:collapse;width:100%;font-size:13px}"
    "th,td{text-align:left;vertical-align:top;padding:3px 8px;border-bottom:1px solid #e2e8f0}"
    "svg{display:block;max-width:100%;height:auto}h2{overflow-wrap:anywhere;margin-top:2.5rem}"
    "b{padding:0 5px;border-radius:3px;color:#fff;font-weight:600}"
)


@dataclass(slots=True)
class Episode:
    """One finding from its opening to its end, however often it was told; `end_us` is None while it lasts."""

    opened: Finding
    severity: Severity
    updates: int = 0
    end_us: int | None = None


def episodes(findings: Sequence[Finding]) -> list[Episode]:
    """Put what is told of one cause together, in the order of opening."""
    found: dict[bytes, Episode] = {}
    for each in findings:
        episode = found.get(each.id)
        if episode is None:
            episode = found[each.id] = Episode(each, each.severity)
        if each.status is FindingStatus.UPDATED:
            episode.updates += 1
        if each.status is FindingStatus.CLEARED:
            episode.end_us = each.time_us
        elif SEVERITY_RANK[each.severity] > SEVERITY_RANK[episode.severity]:
            episode.severity = each.severity
    return list(found.values())


def page(recording: Recording, title: str) -> str:
    """Return the whole page."""
    by_device: dict[str, list[Episode]] = {device: [] for device in recording.tracks}
    for episode in episodes(recording.findings):
        by_device.setdefault(episode.opened.device_id, []).append(episode)
    order = sorted(by_device, key=lambda device: (-len(by_device[device]), device))
    parts = [_head(recording, by_device, title)]
    parts += [_device(recording, device, by_device[device]) for device in order[:MAX_DEVICES]]
    if len(order) > MAX_DEVICES:
        parts.append(
            f"<p>{len(order) - MAX_DEVICES} more devices are not drawn, those with fewest findings.</p>"
        )
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            *parts,
            "</body></html>",
            "",
        )
    )


def _head(recording: Recording, by_device: Mapping[str, Sequence[Episode]], title: str) -> str:
    rules = Counter(each.opened.rule for found in by_device.values() for each in found)
    told = ", ".join(f"{escape(rule)} {count}" for rule, count in sorted(rules.items())) or "none"
    cut = " Only the beginning of the recording: it is longer." if recording.was_cut else ""
    return (
        f"<h1>{escape(title)}</h1>"
        f"<p>{recording.events:,} events of {len(recording.tracks):,} devices. Findings: {told}.{cut}</p>"
        f"<p>Configuration <code>{escape(recording.config)}</code>. "
        "This page shows measured values: handle it as patient data.</p>"
    )


def _device(recording: Recording, device: str, found: Sequence[Episode]) -> str:
    first_us, last_us = recording.span_us(device)
    tracks = recording.tracks.get(device, {})
    codes = sorted(tracks)[:MAX_SIGNALS]
    panels = [
        _panel(code, tracks[code], (first_us, last_us), found).placed(0, number * HEIGHT_PX)
        for number, code in enumerate(codes)
    ]
    drawn = (
        svgplot.drawing(panels, WIDTH_PX, HEIGHT_PX * len(panels), f"Signals of {device}") if panels else ""
    )
    more = (
        f"<p>{len(tracks) - len(codes)} more signals are not drawn.</p>" if len(tracks) > len(codes) else ""
    )
    span = f"{_moment(first_us)} to {_moment(last_us)} UTC"
    return f"<h2>{escape(device)}</h2><p>{span}</p>{drawn}{more}{_table(found)}"


def _panel(code: int, track: Track, span_us: tuple[int, int], found: Sequence[Episode]) -> svgplot.Panel:
    times = svgplot.Axis(*span_us, [(each, _clock(each, span_us)) for each in _time_ticks(span_us)])
    low, high = min(track.values), max(track.values)
    if not low < high:
        low, high = low - 1.0, high + 1.0
    values = svgplot.Axis(low, high, [(each, f"{each:g}") for each in svgplot.ticks(low, high, 3)])
    signal = BY_CODE.get(code)
    title = f"{label(code)}, {signal.unit}" if signal else label(code)
    panel = svgplot.Panel(times, values, width=WIDTH_PX, height=HEIGHT_PX, title=title)
    for each in found:
        concerns = each.opened.parameters.get("code", "")
        if concerns not in ("", str(code)):
            continue
        end_us = span_us[1] if each.end_us is None else each.end_us
        tip = f"{each.opened.rule} ({each.severity.value.lower()}): {each.opened.explanation}"
        panel.band(each.opened.time_us, end_us, _COLOURS[each.severity], tip)
    panel.line(thinned(track, span_us, WIDTH_PX), svgplot.COLOURS[0])
    return panel


def thinned(track: Track, span_us: tuple[int, int], pixels: int) -> list[svgplot.Point]:
    """Keep of each pixel's width the lowest and highest sample; a NaN stands where samples are missing."""
    times, values = track.times_us, track.values
    width = max(1, (span_us[1] - span_us[0]) // pixels)
    usual = sorted(b - a for a, b in pairwise(times))
    gap = _GAP * max(width, usual[len(usual) // 2] if usual else 0)
    points: list[svgplot.Point] = []
    at = 0
    while at < len(times):
        end = at + 1
        column = (times[at] - span_us[0]) // width
        while end < len(times) and (times[end] - span_us[0]) // width == column:
            end += 1
        if at and times[at] - times[at - 1] > gap:
            points.append((float(times[at]), math.nan))
        places = range(at, end)
        lowest, highest = min(places, key=values.__getitem__), max(places, key=values.__getitem__)
        points += [(float(times[each]), values[each]) for each in sorted({lowest, highest})]
        at = end
    return points


def _table(found: Sequence[Episode]) -> str:
    if not found:
        return "<p>No findings.</p>"
    rows = [_row(each) for each in found[:MAX_LISTED]]
    more = f"<p>{len(found) - MAX_LISTED} more findings.</p>" if len(found) > MAX_LISTED else ""
    head = "".join(f"<th>{name}</th>" for name in ("from", "until", "", "rule", "what", "evidence"))
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>{more}"


def _row(episode: Episode) -> str:
    opened = episode.opened
    until = "lasts" if episode.end_us is None else _moment(episode.end_us)
    badge = f'<b style="background:{_COLOURS[episode.severity]}">{episode.severity.value.lower()}</b>' + (
        f" {episode.updates} updates" if episode.updates else ""
    )
    places = ", ".join(f"{each.topic}/{each.partition}/{each.offset}" for each in opened.evidence)
    cells = (escape(opened.rule), escape(opened.explanation), escape(places))
    return (
        f"<tr><td>{_moment(opened.time_us)}</td><td>{until}</td><td>{badge}</td>"
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )


def _time_ticks(span_us: tuple[int, int]) -> list[int]:
    """About eight whole steps of a clock or calendar within a span."""
    length_s = (span_us[1] - span_us[0]) / 1e6
    steps = (1, 5, 15, 60, 300, 900, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 7 * 86_400, 30 * 86_400)
    step_us = next((each for each in steps if length_s / each <= 8), 365 * 86_400) * 1_000_000
    first = -(-span_us[0] // step_us)
    return [each * step_us for each in range(first, span_us[1] // step_us + 1)][:100]


def _clock(time_us: int, span_us: tuple[int, int]) -> str:
    shown = _moment(time_us)
    days = (span_us[1] - span_us[0]) / 86_400e6
    return shown[:10] if days > 8 else shown[5:16] if days > 1 else shown[11:]


def _moment(time_us: int) -> str:
    """A time as text; one that no calendar holds as seconds since 1970."""
    try:
        return f"{datetime.fromtimestamp(time_us // 1_000_000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{time_us // 1_000_000} s"
