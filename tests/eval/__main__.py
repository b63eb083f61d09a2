"""`make eval`: measure the detectors on the real record, or on labelled series (`--data DIR`).

Writes build/eval.json and prints a table. `--store` keeps the run as the one in docs/detectors.md.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.eval import baselines, nab, report, results, scorers
from tests.eval.adapter import config_digest, cpu_us_per_event, detections
from tests.eval.record import eight_signals
from tests.eval.series import SeriesError, read
from tests.eval.trials import clean_run, run_all

TRIALS, SEED = 20, 1
REPORT, DATA_REPORT = Path("build/eval.json"), Path("build/eval-data.json")


def main(arguments: Sequence[str]) -> int:
    """Entry point: 0 when measured, 2 for series that cannot be read or where river is missing."""
    options = _options(arguments)
    console = Console(soft_wrap=True, highlight=False)
    try:
        return _evaluate(options, console) if options.data is None else _series(options, console)
    except (SeriesError, scorers.RiverMissingError) as error:
        print(f"eval: {error}", file=sys.stderr)
        return 2


def _series(options: argparse.Namespace, console: Console) -> int:
    found, alone = [], {}
    for series in read(options.data):
        found.append(nab.Found(series, detections(series.times_us, series.values)))
        alone[series.name] = {**nab.summary(found[-1:]), "rows": found[-1].rows}
        console.print(f"{series.name}: {_told(alone[series.name])}", markup=False)
    whole = nab.summary(found)
    path = options.report or DATA_REPORT
    results.write({**whole, "by_series": alone, "config": config_digest()}, path)
    console.print(f"all {whole['series']} series: {_told(whole)}: {path}", markup=False)
    return 0


def _told(summary: Mapping[str, Any]) -> str:
    scores = ", ".join(f"{name} {'-' if each is None else each}" for name, each in summary["scores"].items())
    precision, recall = ("-" if summary[name] is None else summary[name] for name in ("precision", "recall"))
    return (
        f"{summary['windows']} windows, {summary['detections']} detections, "
        f"precision {precision}, recall {recall}; {scores}"
    )


def _evaluate(options: argparse.Namespace, console: Console) -> int:
    def told(text: str) -> None:
        console.print(text, style="dim")

    if options.baselines:
        scorers.find_river(options.river)
    clean = clean_run()
    told(f"clean: {len(clean.alarms)} false alarms in {clean.device_days:.2f} device-days")
    found = run_all(trials=options.trials, seed=options.seed, told=told)
    document = results.summary(
        found,
        clean,
        cpu=cpu_us_per_event(eight_signals()),
        trials=options.trials,
        seed=options.seed,
        config=config_digest(),
    )
    path = options.report or REPORT
    if options.baselines:
        document["baselines"] = baselines.compare(
            results.at_detectable(found),
            false_alarms_per_device_day=clean.per_device_day,
            cpu_us=document["cpu_us_per_event"],
            events=eight_signals(),
            seed=options.seed,
            told=told,
        )
    results.write(document, path)
    if options.store:
        report.store(document)
    console.print(
        "\n".join([*report.by_anomaly(document), "", *report.by_rule(document), *report.baselines(document)]),
        markup=False,
    )
    console.print(
        f"false alarms {document['false_alarms_per_device_day']} per device-day, least recall "
        f"{document['min_recall']}, {document['cpu_us_per_event']} us an event (a step of a plain loop: "
        f"{document['loop_ns']} ns): {path}"
    )
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.eval", description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"of each strength (default {TRIALS})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of all that is drawn (default {SEED})")
    parser.add_argument("--report", type=Path, help=f"default: {REPORT}, or {DATA_REPORT}")
    parser.add_argument("--store", action="store_true", help="show this run in docs/detectors.md")
    parser.add_argument("--data", type=Path, help="score labelled series of this folder instead")
    parser.add_argument(
        "--no-baselines", dest="baselines", action="store_false", help="do not compare with river and limits"
    )
    parser.add_argument("--river", type=Path, help="folder in which river is installed")
    options = parser.parse_args(arguments)
    if options.trials < 1:
        parser.error("--trials: at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
