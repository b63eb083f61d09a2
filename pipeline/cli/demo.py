"""`attestream demo`: the product's main job in a minute, with attacks, judged from outside."""

import secrets
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import BootstrapServers, ClientSetting, CommandConfig, settings_from

SILENCE_AFTER_S = 5.0
SILENCE_AFTER_READINGS = 5
MIN_SECONDS, MAX_SECONDS = 5.0, 86_400.0
MIN_RATE_HZ, MAX_RATE_HZ = 0.1, 1000.0
MIN_ATTACKED_DEVICES = 3
FAILED = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(  # noqa: PLR0917 - typer takes every option as a parameter
    seconds: Annotated[float, typer.Option(help="How long to stream, in seconds.")] = 60.0,
    devices: Annotated[int, typer.Option(help="How many monitors.")] = 50,
    rate: Annotated[float, typer.Option(help="Readings a second, of each monitor.")] = 4.0,
    report: Annotated[Path | None, typer.Option(help="Write the result here, as JSON.")] = None,
    no_attacks: Annotated[bool, typer.Option("--no-attacks", help="Stream clean events only.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up afterwards.")] = False,
    seed: Annotated[int | None, typer.Option(help="Repeat the moments and victims of a run.")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Where the stack keeps its files.  [default: a temporary folder]"),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    command_config: CommandConfig = None,
    client_settings: ClientSetting = None,
) -> None:
    """Replay a real intensive-care record as a fleet, attack it, and check what became of every record.

    Ends by itself. Exit code 0 only if every attack was found, no clean event was rejected, access was
    decided by the policies, every alert was delivered, the books balance, evidence was verified, a flipped
    byte was found, and an anchor was confirmed.
    """
    from pipeline.demo.run import DemoOptions
    from pipeline.demo.session import folder, interruptible, keep_up, play
    from pipeline.demo.show import Show
    from pipeline.settings import UsageError

    least = 1 if no_attacks else MIN_ATTACKED_DEVICES
    if devices < least:
        raise UsageError(f"--devices {devices}: at least {least}")
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise UsageError(f"--seconds {seconds:g}: from {MIN_SECONDS:g} to {MAX_SECONDS:g}")
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise UsageError(f"--rate {rate:g}: from {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}")
    if report is not None:
        _clear(report)
    chosen = secrets.randbits(31) if seed is None else seed
    options = DemoOptions(seconds, devices, rate, not no_attacks, chosen)
    with interruptible(), folder(data_dir) as place:
        asked = settings = settings_from(place, bootstrap_servers, command_config, client_settings)
        if "silence_after_s" not in settings.model_fields_set:
            # A reading must be due well within the limit, however slow the chosen rate.
            limit = max(SILENCE_AFTER_S, SILENCE_AFTER_READINGS / rate)
            settings = settings.model_copy(update={"silence_after_s": limit})
        if "same_noise" not in settings.model_fields_set:
            # Its monitors replay one record, so they do have the same noise.
            settings = settings.model_copy(update={"same_noise": False})
        show = Show()
        ok = play(settings, options, report, show)
        if keep:
            keep_up(asked, show)  # the shorter silence limit was for the demo only
        elif data_dir is None and ok:
            shutil.rmtree(place, ignore_errors=True)
        elif data_dir is None:
            show.say(f"logs and data were left in {place}")
    sys.exit(0 if ok else FAILED)


def _clear(report: Path) -> None:
    """Remove an earlier report, and notice now that a new one cannot be written."""
    from pipeline.settings import UsageError

    try:
        report.write_text("", encoding="utf-8")
        report.unlink()
    except OSError as error:
        raise UsageError(f"--report {report}: {error.strerror}") from error
