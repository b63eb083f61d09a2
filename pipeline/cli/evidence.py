"""`attestream prove` and `attestream verify`: take evidence for a record, and check evidence from bytes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import BootstrapServers, ClientSetting, CommandConfig, DataDir, settings_from

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from processors.verification.verdict import Verdict
    from schemas.evidence import Evidence

POLL_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="prove")(prove)
    app.command(name="verify")(verify)


def prove(
    *,
    topic: Annotated[str, typer.Option(help="A sealed topic, such as device.events.")],
    partition: Annotated[int, typer.Option(min=0)],
    offset: Annotated[int, typer.Option(min=0)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="[default: TOPIC-PARTITION-OFFSET.evidence.json]")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait while the record is being sealed.")] = 0.0,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    command_config: CommandConfig = None,
    client_settings: ClientSetting = None,
) -> None:
    """Write the evidence for one record: the record, its leaf, and two inclusion proofs."""
    settings = settings_from(data_dir, bootstrap_servers, command_config, client_settings)
    evidence = _prove(settings, (topic, partition, offset), wait)
    path = output or Path(f"{topic}-{partition}-{offset}.evidence.json")
    path.write_text(evidence.to_json() + "\n", encoding="utf-8")
    anchored = "anchored" if evidence.anchor else "not anchored yet"
    print(f"{path}: {topic}[{partition}] at {offset}, sealed, {anchored}")


def verify(
    file: Annotated[Path, typer.Argument(help="An evidence file.")],
    *,
    trust: Annotated[Path, typer.Option("--trust", help="Whom you believe; never taken from the evidence.")],
    as_json: Annotated[bool, typer.Option("--json", help="The verdict as JSON.")] = False,
) -> None:
    """Check evidence offline, from its bytes and the trust file alone. Exit 1 when a step does not hold."""
    from pipeline.settings import UsageError
    from pipeline.trust import load_trust
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
    if as_json:
        steps = [{"name": s.name, "holds": s.holds, "detail": s.detail} for s in verdict.steps]
        print(json.dumps({"holds": verdict.holds, "steps": steps, "not_proven": verdict.not_proven}))
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
    if verdict.holds:
        console.print(Text("\nThe evidence holds. It does not prove:", style="bold"))
        for each in verdict.not_proven:
            console.print(Text(f"  - {each}"))
    else:
        console.print(Text("\nThe evidence does NOT hold.", style="bold red"))


def _prove(settings: "Settings", place: tuple[str, int, int], wait_s: float) -> "Evidence":
    import time

    from pipeline.evidence import NotProvenYetError
    from pipeline.evidence import prove as take

    until = time.monotonic() + wait_s
    while True:
        try:
            return take(settings, *place)
        except NotProvenYetError:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)
