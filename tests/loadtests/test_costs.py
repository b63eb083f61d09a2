"""A file of costs is read whole and within bounds, or refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.costs import MAX_BYTES, SHIPPED, Costs, CostsError, read_costs, write_costs


def shipped() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return found


def test_the_shipped_costs_are_read_and_written_the_same(tmp_path: Path) -> None:
    costs = read_costs()
    write_costs(tmp_path / "new" / "costs.json", costs)
    assert read_costs(tmp_path / "new" / "costs.json") == costs
    assert costs.stages.ingest_wheel.cpu_us > 0
    assert costs.origin.command.startswith("attestream loadtest costs")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is not JSON"),
        (b"[]", "not an object"),
        (b"{}", "holds no measured costs: format"),
        (b"\xff", "is not JSON"),
        (b'{"format": "attestream costs 1", "format": "attestream costs 1"}', "two members of one name"),
        (b"[" * 100_000, "is not JSON"),
        (b" " * (MAX_BYTES + 1), "longer than any file of costs"),
    ],
)
def test_what_is_no_file_of_costs_is_refused(text: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_bytes(text)
    with pytest.raises(CostsError, match=said):
        read_costs(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CostsError, match="cannot read"):
        read_costs(tmp_path / "none")


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("stages", "seal", None),
        ("stages", "seal", {"idle_cores": 0.1, "cpu_us": -1}),
        ("mix", "event_bytes", 1e13),
        ("mix", "devices", 0),
        ("memory", "state_bytes", "many"),
        ("kafka", "further", 1),
        ("origin", "cpu", "x" * 501),
    ],
)
def test_a_figure_out_of_bounds_is_named(part: str, name: str, value: object, tmp_path: Path) -> None:
    found = shipped()
    found[part][name] = value
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(found))
    with pytest.raises(CostsError, match=rf"{part}\.{name}"):
        read_costs(path)


@given(data=st.data())
def test_whatever_stands_in_it_is_costs_or_one_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = shipped()
    part = data.draw(st.sampled_from(sorted(found)))
    found[part] = data.draw(
        st.recursive(
            st.none()
            | st.booleans()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=5,
        )
    )
    path = tmp_path_factory.mktemp("costs") / "costs.json"
    path.write_text(json.dumps(found))
    try:
        assert isinstance(read_costs(path), Costs)
    except CostsError:
        return
