"""The result of a run as a JSON document: the OpenMessaging Benchmark's fields, and `attestream` with the
rest.

Fields and units are those of its TestResult: lists have one value for each second, latencies are in ms but
for the delay before publishing, which is in us; `endToEnd` is from the intended moment until the event is
accepted and visible, and so is what `consumeRate` counts.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtests.corpus import Corpus
from loadtests.errors import LoadTestError
from loadtests.latency import PERCENTILES, Latencies, summary_line
from loadtests.legs import ACCEPT, DELAYED, PUBLISHED, Leg
from loadtests.measure import Measured
from loadtests.openloop import UNSET
from loadtests.processes import MIB, machine
from loadtests.target import Target
from schemas.strictjson import load_object

FORMAT = "attestream loadtest 1"
MAX_RESULT_BYTES = 64 << 20
DRIVER = "Kafka"
PERIOD_NS = 1_000_000_000
_HGRM = (DELAYED, PUBLISHED, "accepted", "checkpoint", "anchored", "rejected", "alert")


class ResultError(LoadTestError):
    """A file is not the result of a load test."""


def document(measured: Measured, target: Target, corpus: Corpus, workload: str) -> dict[str, Any]:
    """Put a run's figures together."""
    periods = max(1, math.ceil(measured.seconds))
    publish, delay, accepted = (measured.legs[name] for name in (PUBLISHED, DELAYED, ACCEPT))
    acknowledged = measured.sent.acknowledged_ns
    came = acknowledged[acknowledged != UNSET]
    count = len(measured.sent)
    failed = np.zeros(0, np.int64) if len(came) == count else measured.sent.sent_ns[acknowledged == UNSET]
    start_ns = measured.sent.start_ns
    return {
        "workload": workload,
        "driver": DRIVER,
        "messageSize": round(measured.sent_bytes / max(1, count)),
        "topics": len(target.raw),
        "partitions": target.partitions,
        "producersPerTopic": 1,
        "consumersPerTopic": 1,
        "publishRate": _rates(came, start_ns, periods),
        "publishErrorRate": _rates(failed, start_ns, periods),
        "consumeRate": _rates(accepted.came_ns, start_ns, periods),
        "backlog": _backlog(measured, periods),
        **_latencies("publishLatency", publish, start_ns, periods, scale=1.0),
        **_latencies("publishDelayLatency", delay, start_ns, periods, scale=1000.0),
        **_latencies("endToEndLatency", accepted, start_ns, periods, scale=1.0),
        "attestream": _ours(measured, target, corpus),
    }


def _rates(at_ns: npt.NDArray[np.int64], start_ns: int, periods: int) -> list[float]:
    bounds = start_ns + np.arange(periods + 1) * PERIOD_NS
    return [float(each) for each in np.histogram(at_ns, bounds)[0]]


def _backlog(measured: Measured, periods: int) -> list[int]:
    """What ingest had not judged at the end of each second, as far as it was looked at."""
    found, lags, at = [], measured.sightings.lag, 0
    for period in range(1, periods + 1):
        until_ns = measured.sent.start_ns + period * PERIOD_NS
        while at + 1 < len(lags) and lags[at + 1].at_ns <= until_ns:
            at += 1
        found.append(lags[at].raw if lags else 0)
    return found


def _latencies(name: str, leg: Leg, start_ns: int, periods: int, *, scale: float) -> dict[str, Any]:
    """Name a leg's figures for each second and over all."""
    over_all = f"aggregated{name[0].upper()}{name[1:]}"
    columns = ("Avg", *(suffix for suffix, _ in PERCENTILES), "Max")
    found: dict[str, Any] = {f"{name}{column}": [] for column in columns}
    place = np.clip((leg.came_ns - start_ns) // PERIOD_NS, 0, periods - 1)
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(periods + 1))
    for period in range(periods):
        values = leg.took_ns[order[bounds[period] : bounds[period + 1]]]
        for column, value in _figures(Latencies.of_ns(values), scale).items():
            found[f"{name}{column}"].append(value)
    whole = leg.latencies
    for column, value in _figures(whole, scale).items():
        found[f"{over_all}{column}"] = value
    quantiles = {at: round(value * scale, 3) for at, value in whole.quantiles().items()}
    found[f"{over_all}Quantiles"] = quantiles
    return found


def _figures(latencies: Latencies, scale: float) -> dict[str, float]:
    found = {"Avg": latencies.mean, **{name: latencies.at(at) for name, at in PERCENTILES}}
    found["Max"] = latencies.most
    return {name: 0.0 if math.isnan(each) else round(each * scale, 3) for name, each in found.items()}


def _ours(measured: Measured, target: Target, corpus: Corpus) -> dict[str, Any]:
    header, load = corpus.header, measured.load
    publish = Latencies.of_ns(measured.legs[DELAYED].took_ns + measured.legs[PUBLISHED].took_ns)
    count = int((measured.sent.acknowledged_ns != UNSET).sum())
    return {
        "format": FORMAT,
        "began": measured.began_s,
        "seconds": round(measured.seconds, 3),
        "target_rate": load.rate,
        "rate": round(count / measured.seconds, 1),
        "warmup": load.warmup,
        "drained": measured.drained,
        "summary": summary_line(count, measured.sent_bytes, measured.seconds, publish),
        "ledger": measured.ledger.to_json(),
        "legs": {name: leg.to_json() for name, leg in measured.legs.items()},
        "quantiles": {name: leg.latencies.quantiles() for name, leg in measured.legs.items()},
        "stages": stages_of(measured),
        "lag": [
            [round((each.at_ns - measured.sent.start_ns) / 1e9, 2), each.raw, each.unsealed]
            for each in measured.sightings.lag
        ],
        "processes": _processes(measured),
        "machine": machine(),
        "stack": {"partitions": target.partitions, "log_name": target.log_name},
        "corpus": {
            "devices": header.devices,
            "records": header.records,
            "forged": header.forged,
            "mix": dict(header.mix),
        },
    }


def stages_of(measured: Measured) -> dict[str, dict[str, Any]]:
    """CPU of each process in the steady part, memory over all, and CPU time for what it did."""
    before, after = measured.marks
    seconds = after.at_s - before.at_s
    found: dict[str, dict[str, Any]] = {}
    judged = sum(_rise(measured, name, _JUDGED) for name in after.counted if name.startswith("ingest"))
    for name, series in measured.processes.items():
        cpu_s = after.cpu_s.get(name, 0.0) - before.cpu_s.get(name, 0.0)
        own = judged
        if name.startswith("ingest"):
            own = _rise(measured, name, _JUDGED)
        elif name.startswith("seal"):
            own = _rise(measured, name, ("attestream_leaves_total",))
        elif name == "generator":
            own = _sent_between(measured)
        found[name] = {
            "cores": round(cpu_s / seconds, 3) if seconds > 0 else None,
            "cpu_us": round(cpu_s / own * 1e6, 1) if own else None,
            "done": round(own),
            "of": "leaf" if name.startswith("seal") else "envelope",
            "rss_mib": round(max(series.rss, default=0) / MIB, 1),
        }
    return found


_JUDGED = ("attestream_accepted_total", "attestream_rejected_total")


def _rise(measured: Measured, name: str, wanted: tuple[str, ...]) -> float:
    before, after = measured.marks
    was, now = before.counted.get(name, {}), after.counted.get(name, {})
    return sum(now.get(each, 0.0) - was.get(each, 0.0) for each in wanted)


def _sent_between(measured: Measured) -> float:
    before, after = measured.marks
    at_s = measured.sent.sent_ns / 1e9
    return float(((at_s >= before.at_s) & (at_s < after.at_s)).sum())


def _processes(measured: Measured) -> dict[str, dict[str, list[float]]]:
    """Cores used between samples, and MiB resident, at seconds since the start."""
    start_s = measured.sent.start_ns / 1e9
    found = {}
    for name, series in measured.processes.items():
        if len(series.at_s) < 2:
            continue
        spans = np.maximum(np.diff(series.at_s), 1e-6)
        found[name] = {
            "at_s": [round(each - start_s, 2) for each in series.at_s[1:]],
            "cores": [round(float(each), 3) for each in np.diff(series.cpu_s) / spans],
            "rss_mib": [round(each / MIB, 1) for each in series.rss[1:]],
        }
    return found


def save(folder: Path, measured: Measured, found: Mapping[str, Any]) -> list[Path]:
    """Write `result.json` and a `.hgrm` file for each leg; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "result.json"]
    write_json(written[0], found)
    for name in _HGRM:
        leg = measured.legs[name]
        if len(leg.took_ns):
            path = folder / f"{name}.hgrm"
            path.write_text(leg.latencies.hgrm(), encoding="ascii")
            written.append(path)
    return written


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document for people and programs."""
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> dict[str, Any]:
    """Read a result; raises ResultError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RESULT_BYTES + 1)
        if len(data) > MAX_RESULT_BYTES:
            raise ResultError(f"{path} is longer than any result")
        found = load_object(data)
    except OSError as error:
        raise ResultError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ResultError(f"{path} is not JSON: {error}") from error
    ours = found.get("attestream")
    if not isinstance(ours, dict) or ours.get("format") != FORMAT:
        raise ResultError(f"{path} is not the result of `attestream loadtest`")
    return found
