"""`make eval`: measure the detectors on the real record, or on labelled series (`--data DIR`).

Writes build/eval.json and prints a table. `--store` keeps the run as the one in docs/detectors.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.eval import report, results
from tests.eval.adapter import config_digest, cpu_us_per_event
from tests.eval.record import eight_signals
from tests.eval.trials import clean_run, run_all

TRIALS, SEED = 20, 1


def main(arguments: Sequence[str]) -> int:
    """Entry point: 0 when measured, 2 for input that cannot be read."""
    options = _options(arguments)
    console = Console(soft_wrap=True, highlight=False)
    return _evaluate(options, console)


def _evaluate(options: argparse.Namespace, console: Console) -> int:
    def told(text: str) -> None:
        console.print(text, style="dim")

    clean = clean_run()
    told(f"clean: {len(clean.alarms)} false alarms in {clean.device_days:.2f} device-days")
    found = run_all(trials=options.trials, seed=options.seed, told=told)
    document = results.summary(
        found,
        clean,
        cpu_us=cpu_us_per_event(eight_signals()),
        trials=options.trials,
        seed=options.seed,
        config=config_digest(),
    )
    results.write(document, options.report)
    if options.store:
        report.store(document)
    console.print("\n".join([*report.by_anomaly(document), "", *report.by_rule(document)]), markup=False)
    console.print(
        f"false alarms {document['false_alarms_per_device_day']} per device-day, least recall "
        f"{document['min_recall']}, {document['cpu_us_per_event']} us an event: {options.report}"
    )
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.eval", description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"of each strength (default {TRIALS})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of all that is drawn (default {SEED})")
    parser.add_argument("--report", type=Path, default=Path("build/eval.json"))
    parser.add_argument("--store", action="store_true", help="show this run in docs/detectors.md")
    options = parser.parse_args(arguments)
    if options.trials < 1:
        parser.error("--trials: at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
