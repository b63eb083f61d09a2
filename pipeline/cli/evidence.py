"""`attestream prove` and `attestream verify`: take evidence for a record, and check evidence from bytes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import on_kafka

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from processors.verification.verdict import Verdict
    from schemas.evidence import Evidence
    from schemas.trust import TrustRoot

POLL_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="prove")(prove)
    app.command(name="verify")(verify)


@on_kafka
def prove(
    settings: "Settings",
    *,
    topic: Annotated[str | None, typer.Option(help="A sealed topic, such as device.events.")] = None,
    partition: Annotated[int | None, typer.Option(min=0)] = None,
    offset: Annotated[int | None, typer.Option(min=0)] = None,
    device: Annotated[str | None, typer.Option(metavar="DID", help="Of an accepted event.")] = None,
    boot: Annotated[int | None, typer.Option(min=1)] = None,
    sequence: Annotated[int | None, typer.Option(min=1)] = None,
    kind: Annotated[str, typer.Option(help="Event type: telemetry, access or lifecycle.")] = "telemetry",
    digest: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="BLAKE3 of an event's payload (32 bytes, or the first 16)."),
    ] = None,
    redact: Annotated[
        str | None, typer.Option(metavar="value", help="Withhold the value: its digest stands in its place.")
    ] = None,
    earliest: Annotated[
        bool, typer.Option("--earliest", help="Prove under the earliest anchored root: the tightest time.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="[default: TOPIC-PARTITION-OFFSET.evidence.json]")
    ] = None,
    export_proofs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write leaves, proofs and keys as files for other tools."),
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait while the record is being sealed.")] = 0.0,
) -> None:
    """Write the evidence for one record: named by its place, by its device and sequence, or by its digest."""
    from pipeline.exportproofs import export
    from pipeline.findevent import Wanted, find_place
    from pipeline.settings import UsageError
    from pipeline.trust import load_trust, trust_path

    if redact not in (None, "value"):
        raise UsageError(f"--redact {redact}: only `value` can be withheld")
    wanted = Wanted(topic, partition, offset, device, boot, sequence, kind, digest)
    place = find_place(settings, wanted)
    evidence = _prove(settings, place, wait, earliest=earliest)
    if redact:
        evidence = evidence.redacted()
    topic, partition, offset = place
    path = output or Path(f"{topic}-{partition}-{offset}.evidence.json")
    path.write_text(evidence.to_json() + "\n", encoding="utf-8")
    trust = load_trust(trust_path(settings))
    anchored = "anchored" if evidence.anchor else "not anchored yet"
    print(f"{path}: {topic}[{partition}] at {offset}, sealed, {anchored}")
    if export_proofs is not None:
        names = export(evidence, trust, export_proofs)
        print(f"{export_proofs}: {', '.join(names)}")
    _tell_unless_it_holds(evidence, trust)


def verify(
    file: Annotated[Path, typer.Argument(help="An evidence file.")],
    *,
    trust: Annotated[Path, typer.Option("--trust", help="Whom you believe; never taken from the evidence.")],
    mirror: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask this mirror about the ledger receipt.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The verdict as JSON.")] = False,
) -> None:
    """Check evidence offline, from its bytes and the trust file alone. Exit 1 when a step does not hold."""
    from pipeline.settings import UsageError
    from pipeline.trust import load_trust
    from pipeline.verify import check_online
    from pipeline.verify import verify as check
    from schemas.errors import FormatError
    from schemas.evidence import parse_evidence

    believed = load_trust(trust)
    try:
        evidence = parse_evidence(file.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except FormatError as error:
        raise FormatError(f"{file}: {error}") from error
    verdict = check(evidence, believed)
    if mirror is not None and verdict.holds:
        check_online(evidence, verdict, mirror)
    if as_json:
        print(json.dumps(_document(verdict)))
    else:
        show(verdict)
    if not verdict.holds:
        raise typer.Exit(1)


def show(verdict: "Verdict") -> None:
    """Print a verdict as a person reads it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False)
    for step in verdict.steps:
        mark = Text(" ok ", style="bold green") if step.holds else Text("FAIL", style="bold red")
        console.print(mark, Text(f"{step.name}: {step.detail}"))
        if step.by:
            console.print(Text(f"     by {step.by}", style="dim"))
    for each in verdict.warnings:
        console.print(Text("WARN", style="bold yellow"), Text(each))
    broken = verdict.broken
    if broken is not None:
        console.print(Text(f"\nThe evidence does NOT hold: {broken.name}.", style="bold red"))
        return
    console.print(Text("\nThe evidence holds. It does not prove:", style="bold"))
    for each in verdict.not_proven:
        console.print(Text(f"  - {each}"))


def _document(verdict: "Verdict") -> dict[str, object]:
    broken = verdict.broken
    return {
        "holds": verdict.holds,
        "broken": broken.name if broken else None,
        "steps": [{"name": s.name, "holds": s.holds, "detail": s.detail, "by": s.by} for s in verdict.steps],
        "existed_before_s": verdict.existed_before_s,
        "warnings": verdict.warnings,
        "not_proven": verdict.not_proven,
    }


def _tell_unless_it_holds(evidence: "Evidence", trust: "TrustRoot") -> None:
    """Say at once what a reader with this trust file would find: a quorum that is missing, for instance."""
    import sys

    from pipeline.verify import verify as check

    broken = check(evidence, trust).broken
    if broken is not None:
        print(
            f"warning: by this trust file it does not hold: {broken.name}: {broken.detail}", file=sys.stderr
        )


def _prove(settings: "Settings", place: tuple[str, int, int], wait_s: float, *, earliest: bool) -> "Evidence":
    import time

    from pipeline.evidence import NotProvenYetError
    from pipeline.evidence import prove as take

    until = time.monotonic() + wait_s
    while True:
        try:
            return take(settings, *place, earliest=earliest)
        except NotProvenYetError:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)
