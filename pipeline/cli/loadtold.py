"""What `attestream loadtest` prints of its results."""

import json
from collections.abc import Mapping
from typing import Any


def tell_run(document: Mapping[str, Any]) -> None:
    """Print a run: the summary line, legs, processes and the ledger."""
    ours = document["attestream"]
    print(ours["summary"])
    for leg in ours["legs"].values():
        if leg.get("not_measured"):
            print(f"{leg['title']}: not measured, {leg['not_measured']}")
        elif leg["count"]:
            missing = f", {leg['missing']:,} did not come so far" if leg["missing"] else ""
            print(
                f"{leg['title']}: p50 {leg['50pct']:,.1f} ms, p95 {leg['95pct']:,.1f} ms, "
                f"p99 {leg['99pct']:,.1f} ms, p99.9 {leg['999pct']:,.1f} ms, max {leg['max']:,.1f} ms "
                f"({leg['count']:,}{missing})"
            )
    for name, stage in ours["stages"].items():
        each = f", {stage['cpu_us']:,.1f} us CPU/{stage['of']}" if stage["cpu_us"] else ""
        print(f"{name}: {stage['cores'] or 0:.2f} cores, {stage['rss_mib']:,.0f} MiB{each}")
    if "find_max" in ours:
        found = ours["find_max"]
        sustained = found["rate"]
        print(f"sustained: {sustained:,.0f} records/sec" if sustained else f"sustained: {found['why_not']}")
    ledger = ours["ledger"]
    print(
        f"ledger: {ledger['sent']:,} sent, {ledger['accepted']:,} accepted, {ledger['rejected']:,} rejected "
        f"({ledger['rejected_as_expected']:,} as expected), {ledger['lost']:,} lost, "
        f"{ledger['duplicated']:,} duplicated"
        + (f", {ledger['unjudged']:,} still wait" if ledger["unjudged"] else "")
    )
    if not ledger["ok"]:
        print(f"THE LEDGER DOES NOT BALANCE: {json.dumps(ledger)}")


def tell_comparison(found: Mapping[str, Any]) -> None:
    """Print a comparison: each contender, then the ratios."""
    _tell_contenders(found, "records", "envelope")
    ratios = found["ratios"]
    print(f"CPU time, Faust / attestream: {ratios['faust_cpu_ratio']}")
    print(f"rate, attestream / plain loop: {ratios['plain_loop_share']}")


def tell_seals(found: Mapping[str, Any]) -> None:
    """Print a comparison of seal with Tessera, or why there is only seal."""
    _tell_contenders(found, "leaves", "leaf")
    for name, why_not in found["not_measured"].items():
        print(f"{name}: not measured, {why_not}")
    if not found["not_measured"]:
        print(f"CPU time, Tessera / attestream: {found['ratios']['tessera_cpu_ratio']}")


def _tell_contenders(found: Mapping[str, Any], done: str, each_of: str) -> None:
    for name, each in found["contenders"].items():
        print(
            f"{name}: {each['rate']:,.0f} {done}/sec, {each['cpu_us']:,.1f} us CPU/{each_of}, "
            f"{each['broker_cpu_us']:,.1f} us of the broker's, {each['rss_mib']:,.0f} MiB"
        )
