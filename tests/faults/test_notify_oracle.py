"""The oracle of alerts: a clean scene passes, and each invariant that is broken in it is found."""

import ast
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deliver.delivery import read_delivery
from processors.covers import compact
from processors.model import RawRecord, Rejection
from schemas.reasons import Reason
from schemas.records import EvidenceRef, Finding, Severity
from tests.faults.machine import notify
from tests.faults.machine.notify.covers import is_worth_an_alert, places_of
from tests.faults.machine.notify.delivered import Arrival
from tests.faults.machine.notify.oracle import NotifyOracle
from tests.faults.machine.oracle.formats import Place, Record, UntrueError, spell

NEAR, FAR = "did:key:zNear", "did:key:zFar"
PARTIES: list[dict[str, Any]] = [
    {"name": "soc", "filter": {"severity": "medium"}},
    {"name": "icu", "filter": {"wards": ["ICU-1"], "rules": ["stuck"]}},
]
Headers = tuple[tuple[str, bytes | None], ...]


def finding(offset: int, topic: str = "device.findings") -> Record:
    made = Finding("stuck", Severity.HIGH, NEAR, 1, "stuck", (EvidenceRef("device.telemetry.raw", 0, 1),))
    return Record(topic, 0, offset, 0, NEAR.encode(), (), made.encode(bytes(16)))


def rejection(offset: int, reason: str = "replay") -> Record:
    headers: Headers = (("reason", reason.encode()), ("source", b"device.telemetry.raw/0/7"))
    return Record("device.rejected", 0, offset, 0, NEAR.encode(), headers, b"")


def alert(offset: int, places: Sequence[Place], uid: str = "", *, severity: int = 4, **more: Any) -> Record:
    uid = uid or spell(places[0])
    document: dict[str, Any] = {
        "metadata": {"uid": uid}, "count": len(places), "severity_id": severity, "status_id": 1,
        "finding_info": {"analytic": {"uid": "stuck"}}, "device": {"uid": NEAR},
        "unmapped": {"covers": compact(map(spell, places))}, **more,
    }  # fmt: skip
    headers: Headers = (("ce_id", uid.encode()), ("ce_source", b"urn:x"))
    return Record("alerts", 0, offset, 0, uid.encode(), headers, json.dumps(document).encode())


def routed(source: Record, party: str, number: int, offset: int | None = None) -> Record:
    told: Headers = (
        ("party", party.encode()),
        ("party.sequence", b"%d" % number),
        ("source", spell(source.place).encode()),
    )
    at = 2 * number if offset is None else offset
    return replace(source, topic=f"alerts.{party}", offset=at, headers=(*source.headers, *told))


def arrival(record: Record, **changes: Any) -> Arrival:
    """What a receiver is sent, by the product's own making of it."""
    raw = RawRecord(record.topic, 0, record.offset, 0, record.key, record.value, record.headers)
    made = read_delivery(raw)
    return replace(Arrival(made.id, str(made.sequence), made.body), **changes)


def buried(record: Record, output: str = "hook") -> Record:
    why: Headers = (("output", output.encode()), ("reason", b"refused"), ("detail", b"HTTP 400"))
    return replace(record, topic=f"{record.topic}.undelivered", headers=(*record.headers, *why))


class Scene:
    """Six source records, four messages and a repeat, two parties and three outputs; all as it should be."""

    def __init__(self) -> None:
        self.sources = [finding(3), finding(5), finding(0, "integrity.findings"), rejection(2), rejection(4)]
        self.sources += [rejection(6, "late"), replace(finding(9), value=b"not ours")]
        self.acknowledged = {
            ("device.findings", 0): 10, ("device.rejected", 0): 7, ("integrity.findings", 0): 1,
        }  # fmt: skip
        first, second, third = (each.place for each in self.sources[:3])
        self.alerts = [
            alert(0, [first]),
            alert(2, [second], severity=2),
            alert(4, [first]),  # a repeat
            alert(6, [third], device={"uid": FAR}),
            alert(8, [self.sources[3].place, self.sources[4].place], "device.rejected/0/2+ab"),
        ]
        self.repeats = {2}
        self.topics = {
            "soc": [routed(self.alerts[at], "soc", n) for n, at in enumerate((0, 3, 4), 1)],
            "icu": [routed(self.alerts[at], "icu", n) for n, at in enumerate((0, 1, 4), 1)],
        }
        self.undelivered: list[Record] = []
        self.arrivals = {
            (party, output): [arrival(record) for record in self.topics[party]]
            for party, output in (("soc", "hook"), ("icu", "hook"), ("icu", "live"))
        }
        self.is_calm = True

    @property
    def hook(self) -> list[Arrival]:
        return self.arrivals["soc", "hook"]

    def oracle(self) -> NotifyOracle:
        """An oracle that has read the latest first, as a reader of many topics may."""
        oracle = NotifyOracle(PARTIES, {NEAR: "ICU-1", FAR: "ER"}, self.arrivals)
        later = [*self.undelivered, *(record for each in self.topics.values() for record in each)]
        for record in (*later, *self.alerts, *self.sources):
            oracle.take(record)
        return oracle

    def found(self) -> set[str]:
        return {each.invariant for each in self.oracle().judge(is_calm=self.is_calm)}

    def pending(self) -> str:
        return self.oracle().pending(self.acknowledged)


def test_a_clean_scene_passes_and_nothing_is_waited_for() -> None:
    assert Scene().found() == set()
    assert Scene().pending() == ""
    assert Scene().oracle().told.repeats == 1


Break = Callable[[Scene], object]


def _renumber(scene: Scene, party: str, at: int, number: int) -> None:
    scene.topics[party][at] = _with_header(scene.topics[party][at], "party.sequence", b"%d" % number)


def _with_header(record: Record, name: str, value: bytes) -> Record:
    return replace(record, headers=tuple((n, value if n == name else v) for n, v in record.headers))


def _swap(items: list[Any], one: int, other: int) -> None:
    items[one], items[other] = items[other], items[one]


def _route_in_another_order(scene: Scene) -> None:
    scene.topics["soc"] = [routed(scene.alerts[at], "soc", n) for n, at in enumerate((0, 4, 3), 1)]


def _also_route_the_repeat(scene: Scene) -> None:
    scene.topics["icu"].append(routed(scene.alerts[2], "icu", 4))


def _twice_by_another_message(scene: Scene) -> None:
    scene.alerts.append(alert(10, [scene.sources[0].place], "another", device={"uid": FAR}, severity=1))


def _repeat_of_others(scene: Scene) -> None:
    scene.alerts[2] = alert(4, [scene.sources[0].place, scene.sources[1].place], "device.findings/0/3")


def _covers(places: list[Place]) -> Break:
    return lambda scene: scene.alerts.append(alert(10, places, "x", device={"uid": FAR}, severity=1))


def _change(at: int, **changes: Any) -> Break:
    def apply(scene: Scene) -> None:
        scene.hook[at] = replace(scene.hook[at], **changes)

    return apply


def _come_again(**changes: Any) -> Break:
    return lambda scene: scene.hook.append(replace(scene.hook[0], **changes))


def _misdeliver(name: str, value: Any) -> Break:
    def apply(scene: Scene) -> None:
        document = json.loads(scene.hook[1].body)
        document["data"][name] = value
        scene.hook[1] = replace(scene.hook[1], body=json.dumps(document))

    return apply


@pytest.mark.parametrize(
    ("broken", "invariant"),
    [
        (lambda scene: scene.alerts.pop(), "alert_lost"),
        (_covers([("device.rejected", 0, 6)]), "alert_invented"),
        (_covers([("device.findings", 0, 4)]), "alert_invented"),
        (_covers([("device.findings", 0, 9)]), "alert_invented"),
        (_twice_by_another_message, "told_again"),
        (_repeat_of_others, "repeat_differs"),
        (lambda s: s.alerts.append(replace(s.alerts[0], headers=(("ce_id", b"y"),))), "alert"),
        (lambda s: s.alerts.append(replace(s.alerts[0], value=b"{")), "alert"),
        (lambda s: s.alerts.append(alert(10, [s.sources[0].place], "z", count=2)), "alert"),
        (lambda scene: scene.topics["soc"].pop(), "not_routed"),
        (lambda scene: scene.topics["icu"].pop(1), "not_routed"),
        (lambda scene: _renumber(scene, "soc", 2, 4), "sequence"),
        (lambda scene: _renumber(scene, "soc", 2, 2), "sequence"),
        (lambda s: s.topics["soc"].append(routed(s.alerts[4], "soc", 4)), "routed_twice"),
        (_also_route_the_repeat, "misrouted"),
        (lambda s: s.topics["icu"].append(routed(s.alerts[3], "icu", 4)), "misrouted"),
        (lambda s: s.topics["soc"].append(routed(s.alerts[1], "soc", 4)), "misrouted"),
        (_route_in_another_order, "route_order"),
        (lambda s: s.topics["soc"].append(replace(s.topics["soc"].pop(), key=b"k")), "bytes"),
        (lambda s: s.topics["soc"].append(replace(s.topics["soc"].pop(), value=b"{}")), "bytes"),
        (lambda s: s.topics["soc"].append(_with_header(s.topics["soc"].pop(), "ce_source", b"")), "bytes"),
        (lambda scene: scene.hook.pop(), "not_delivered"),
        (lambda scene: scene.hook.pop(0), "not_delivered"),
        (_change(1, is_taken=False), "not_delivered"),
        (lambda scene: _swap(scene.hook, 0, 1), "delivery_order"),
        (_come_again(id="alert_other"), "repeat_differs"),
        (_come_again(body="{}"), "repeat_differs"),
        (_come_again(sequence="4"), "delivery_invented"),
        (_come_again(sequence=""), "delivery_invented"),
        (_change(1, id="alert_other"), "delivered_other"),
        (lambda scene: _change(1, id=scene.hook[0].id)(scene), "id_shared"),
        (_change(1, fault="no matching signature"), "not_believed"),
        (_change(1, body="[]"), "delivered_other"),
        (_misdeliver("sequence", 3), "delivered_other"),
        (_misdeliver("party", "icu"), "delivered_other"),
        (_misdeliver("ce_id", "?"), "delivered_other"),
        (_misdeliver("finding", {}), "delivered_other"),
        (_misdeliver("place", {"topic": "alerts", "partition": 0, "offset": 1}), "delivered_other"),
        (lambda scene: scene.undelivered.append(buried(scene.topics["soc"][1])), "buried"),
    ],
)
def test_a_broken_invariant_is_found(broken: Break, invariant: str) -> None:
    scene = Scene()
    broken(scene)
    assert invariant in scene.found()


def test_what_is_told_once_is_not_told_again() -> None:
    scene = Scene()
    scene.alerts.pop()
    oracle = scene.oracle()
    assert oracle.judge(is_calm=True)
    assert oracle.judge(is_calm=True) == []


def test_a_record_may_be_told_again_by_another_message_after_a_fault() -> None:
    scene = Scene()
    _twice_by_another_message(scene)
    scene.is_calm = False
    oracle = scene.oracle()
    assert oracle.judge(is_calm=False) == []
    assert oracle.told.told_again == 1
    assert oracle.judge(is_calm=True) == [], "what a fault excused is excused for good"


def test_a_repeat_as_it_was_is_allowed_also_late_and_counted() -> None:
    scene = Scene()
    scene.hook.extend([scene.hook[0], scene.hook[2]])
    oracle = scene.oracle()
    assert oracle.judge(is_calm=True) == []
    assert oracle.outputs["soc", "hook"].repeats == 2


def test_what_a_receiver_refused_may_be_given_up_and_is_then_accounted_for() -> None:
    scene = Scene()
    scene.hook[1] = replace(scene.hook[1], is_taken=False, is_refused=True)
    assert scene.found() == {"not_delivered"}
    assert "number 2" in scene.pending()
    scene.undelivered.append(buried(scene.topics["soc"][1]))
    assert scene.found() == set()
    assert scene.pending() == ""


def test_what_is_given_up_of_another_output_or_changed_is_found() -> None:
    scene = Scene()
    scene.hook[1] = replace(scene.hook[1], is_taken=False, is_refused=True)
    scene.undelivered = [buried(scene.topics["soc"][1], "other")]
    assert scene.found() == {"not_delivered"}
    scene.undelivered = [replace(buried(scene.topics["soc"][1]), value=b"{}")]
    assert scene.found() == {"bytes"}


def test_a_message_that_tells_of_no_source_record_is_routed_as_others_are() -> None:
    scene = Scene()
    scene.alerts.append(alert(10, [("alerts.control", 0, 1)], count=0, unmapped={"ward": "ICU-1"}))
    assert scene.found() == {"not_routed"}
    for party, number in (("soc", 4), ("icu", 4)):
        scene.topics[party].append(routed(scene.alerts[-1], party, number))
    for (party, _), came in scene.arrivals.items():
        came.append(arrival(scene.topics[party][-1]))
    assert scene.found() == set()


@pytest.mark.parametrize(("devices", "told"), [([FAR], False), ([FAR, NEAR], True), ([], False)])
def test_an_incident_is_for_whoever_has_one_of_its_devices(devices: list[str], told: bool) -> None:
    scene = Scene()
    resources = [{"type": "Device", "uid": each} for each in devices]
    scene.alerts[3] = alert(6, [scene.sources[2].place], device={}, resources=resources)
    scene.topics["soc"][1] = routed(scene.alerts[3], "soc", 2)
    scene.arrivals["soc", "hook"][1] = arrival(scene.topics["soc"][1])
    assert scene.found() == ({"not_routed"} if told else set())


def test_a_suppressed_alert_is_for_nobody() -> None:
    scene = Scene()
    _covers([scene.sources[0].place])(scene)
    scene.alerts[-1] = alert(10, [scene.sources[0].place], "held back", status_id=3)
    scene.is_calm = False
    assert scene.found() == set()
    scene.topics["soc"].append(routed(scene.alerts[-1], "soc", 4))
    scene.hook.append(arrival(scene.topics["soc"][-1]))
    assert scene.found() == {"misrouted"}


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (lambda scene: scene.alerts.pop(), "2 records that are not told of, as device.rejected/0/2"),
        (lambda s: s.acknowledged.update({("device.rejected", 0): 6}), "('device.rejected', 0)"),
        (lambda scene: scene.topics["icu"].pop(), "1 alerts to be routed to icu"),
        (lambda scene: scene.arrivals["icu", "live"].pop(), "1 alerts for icu/live, as number 3"),
    ],
)
def test_what_is_not_there_yet_is_waited_for(broken: Break, what: str) -> None:
    scene = Scene()
    broken(scene)
    assert what in scene.pending()


def test_later_schedules_are_judged_on_from_there() -> None:
    scene = Scene()
    oracle = scene.oracle()
    assert oracle.judge(is_calm=True) == []
    again = [finding(12), alert(10, [("device.findings", 0, 12)])]
    tail = [routed(again[1], "soc", 4), routed(again[1], "icu", 4)]
    for record in (*again, *tail):
        oracle.take(record)
    assert "soc/hook" in oracle.pending({("device.findings", 0): 13, **{
        partition: 99 for partition in scene.acknowledged if partition != ("device.findings", 0)
    }})  # fmt: skip
    for (party, _), came in scene.arrivals.items():
        came.append(arrival(tail[0] if party == "soc" else tail[1]))
    assert oracle.judge(is_calm=True) == []
    scene.hook.append(replace(scene.hook[3], body="{}"))
    assert {each.invariant for each in oracle.judge(is_calm=True)} == {"repeat_differs", "delivered_other"}


# ---- what it reads -----------------------------------------------------------------------------------------


@given(st.sets(st.tuples(st.sampled_from(["a/0", "a/1", "b.c/12"]), st.integers(0, 60)), min_size=1))
def test_covers_are_read_as_they_are_written(offsets: set[tuple[str, int]]) -> None:
    written = compact(f"{partition}/{offset}" for partition, offset in offsets)
    read = places_of(written)
    assert {spell(place) for place in read} == {f"{partition}/{offset}" for partition, offset in offsets}
    assert len(read) == len(offsets)


@pytest.mark.parametrize(
    "covers",
    [
        {}, None, [], "1-2", {"a/0": ""}, {"a/0": "x"}, {"a/0": "-1"}, {"a/0": "3-1"}, {"a/0": "1-"},
        {"a/0": "1,1"}, {"a/0": "2,1"}, {"a/0": "1-3,3"}, {"a/0": "1 ,2"}, {"a": "1"}, {"a/x": "1"},
        {"a/0": "0-99999999999"}, {"a/0": 5.5},
    ],
)  # fmt: skip
def test_covers_that_name_no_records_or_one_twice_are_refused(covers: object) -> None:
    with pytest.raises(UntrueError):
        places_of(covers)


@pytest.mark.parametrize("reason", list(Reason))
def test_rejections_that_are_alerts_are_those_of_the_product(reason: Reason) -> None:
    from pipeline.outputs import reject
    from processors.alert_rules import REJECTION_RULES

    written: list[Record] = []
    source = RawRecord("device.telemetry.raw", 0, 7, 0, NEAR.encode(), b"bytes")

    def produce(topic: str, value: Any, key: Any, partition: int, headers: Any = ()) -> None:
        written.append(Record(topic, partition, 1, 0, key, tuple(headers), value))

    reject(produce, Rejection(source, reason, "why", 0, NEAR))
    assert is_worth_an_alert(written[0]) == (reason in REJECTION_RULES)


def test_a_record_that_nobody_can_read_is_no_alert() -> None:
    assert is_worth_an_alert(finding(1))
    assert not is_worth_an_alert(replace(finding(1), value=None))
    assert not is_worth_an_alert(replace(rejection(1), headers=()))
    assert not is_worth_an_alert(replace(rejection(1), headers=rejection(1).headers[:1]))
    assert not is_worth_an_alert(rejection(1, "bad weather"))


def test_the_oracle_shares_nothing_with_what_it_judges() -> None:
    folder = Path(notify.__file__).parent
    for name in ("covers", "told", "routed", "delivered", "oracle"):
        tree = ast.parse((folder / f"{name}.py").read_text())
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        roots = {each.partition(".")[0] for each in imported}
        assert not roots & {"pipeline", "processors", "anchors", "schemas"}, name
        assert not {each for each in imported if each.startswith("tests.kit")}, name
