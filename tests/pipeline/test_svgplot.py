"""Plots are well-formed whatever is drawn, and nothing in them is markup that somebody else wrote."""

import math
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import svgplot

ANY = st.floats(allow_nan=True, allow_infinity=True)


def drawn(title: str, points: list[svgplot.Point], low: float, high: float) -> str:
    axis = svgplot.Axis(low, high, [(each, f"{each:g}") for each in svgplot.ticks(low, high)])
    panel = svgplot.Panel(axis, axis, width=200, height=100, title=title)
    panel.line(points, svgplot.COLOURS[0], dots=True, dash="2 2")
    panel.band(low, high, "#f00", title)
    panel.mark(high, "#0f0", title)
    names = [(title, svgplot.COLOURS[1])]
    return svgplot.drawing([panel.placed(0, 0), svgplot.legend(names, 0, 90)], 200, 100, title)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ANY, ANY), max_size=8), ANY, ANY)
def test_any_numbers_give_coordinates_inside_the_drawing(
    points: list[svgplot.Point], low: float, high: float
) -> None:
    root = ET.fromstring(drawn("a", points, low, high))
    for each in root.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy"):
            value = float(each.get(name, "0"))
            assert math.isfinite(value)
            assert -200 <= value <= 200
        for pair in each.get("points", "").split():
            assert all(0 <= float(part) <= 200 for part in pair.split(","))


def test_text_is_escaped_everywhere() -> None:
    hostile = "</title><script>alert('x')</script>&\""
    text = drawn(hostile, [(0.0, 0.0), (1.0, 1.0)], 0.0, 1.0)
    assert "<script" not in text
    root = ET.fromstring(text)
    titles = [each.text for each in root.iter() if each.tag.endswith("title")]
    assert titles.count(hostile) == 3


def test_a_nan_breaks_the_line_and_a_single_point_is_still_seen() -> None:
    text = drawn("a", [(0.0, 0.0), (0.2, 0.2), (0.4, math.nan), (0.6, 0.6)], 0.0, 1.0)
    assert text.count("<polyline") == 1
    assert text.count('r="1"') == 1


def test_ticks_are_round_and_few() -> None:
    assert svgplot.ticks(0.0, 100.0) == [0.0, 50.0, 100.0]
    assert svgplot.ticks(51.0, 99.8) == [60.0, 80.0]
    for low, high in ((0.0, 0.0), (1.0, 0.0), (0.0, 5e-324), (-1e308, 1e308), (math.nan, 1.0)):
        assert len(svgplot.ticks(low, high)) < 12
