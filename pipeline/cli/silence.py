"""`attestream silence add|end|list`: alerts that are held back for a time, by an authority's signature."""

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Author, Comment, Out, keep, on_kafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.controls import ControlAuthority
    from pipeline.settings import Settings

_SECONDS = {"m": 60, "h": 3600, "d": 86400}
Name = Annotated[str, typer.Argument(help="Of the silence: a-z, 0-9, '_', '-'.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    silence = typer.Typer(help="Hold alerts back for a time.", no_args_is_help=True)
    silence.callback()(_silence)
    silence.command(name="add")(add)
    silence.command(name="end")(end)
    silence.command(name="list")(list_silences)
    app.add_typer(silence, name="silence")


def _silence() -> None:
    """Hold alerts back: they stay in the log, marked Suppressed, and nobody is told of them."""


@on_kafka
def add(
    settings: "Settings",
    name: Name,
    *,
    length: Annotated[str, typer.Option("--for", help="How long, as 30m, 2h or 7d; at most 30d.")],
    rule: Annotated[list[str] | None, typer.Option("--rule", help="stuck, rejected.replay, ...")] = None,
    device: Annotated[list[str] | None, typer.Option("--device", help="DID of a device.")] = None,
    ward: Annotated[list[str] | None, typer.Option("--ward", help="As the registry has it.")] = None,
    subject: Annotated[list[str] | None, typer.Option("--subject", help="Whom alerts are about.")] = None,
    severity: Annotated[str, typer.Option("--severity", help="The worst that is held back.")] = "high",
    author: Author = "",
    comment: Comment = "",
    out: Out = None,
) -> None:
    """Hold back alerts that fit every option given; several of one option are alternatives."""
    from pipeline.controls import Wanted
    from pipeline.settings import UsageError
    from schemas.records import Severity

    try:
        worst = Severity(severity.upper())
    except ValueError as error:
        choices = ", ".join(each.value.lower() for each in Severity)
        raise UsageError(f"--severity {severity}: choose from {choices}") from error
    lists = {"rules": rule or [], "devices": device or [], "wards": ward or [], "subjects": subject or []}
    with saying(settings, out) as authority:
        authority.silence(name, Wanted(_seconds(length), worst, lists), author, comment)


@on_kafka
def end(
    settings: "Settings", name: Name, *, author: Author = "", comment: Comment = "", out: Out = None
) -> None:
    """End a silence before its time."""
    with saying(settings, out) as authority:
        authority.unsilence(name, author, comment)


@on_kafka
def list_silences(settings: "Settings") -> None:
    """List silences that are in force."""
    import time
    from contextlib import closing
    from datetime import UTC, datetime

    from pipeline.controls import ControlFollower
    from pipeline.trust import load_trust, trust_path

    with closing(ControlFollower(settings, load_trust(trust_path(settings)))) as follower:
        follower.catch_up()
        found = [e for e in follower.table.silences.values() if not e.is_over(time.time_ns() // 1_000_000)]
    for each in found:
        until = datetime.fromtimestamp(each.until_us / 1e6, UTC)
        by = f" by {each.author!a}" if each.author else ""
        print(f"{each.name}: {ascii(each.describe())[1:-1]}, until {until:%Y-%m-%d %H:%M}Z{by}")
    print(f"{len(found)} silences are in force, {len(follower.table.ignored)} entries were ignored")


@contextmanager
def saying(settings: "Settings", out: "Path | None") -> "Iterator[ControlAuthority]":
    """Open an authority whose word is published, or kept in a file for others to sign too."""
    from contextlib import closing

    from pipeline.controls import ControlAuthority

    with closing(ControlAuthority(settings, signs_only=out is not None)) as authority:
        yield authority
        if out is not None and authority.signed is not None:
            keep(out, authority.signed)
        else:
            print("taken, signed and sealed")


def _seconds(text: str) -> float:
    from pipeline.settings import UsageError

    match = re.fullmatch(r"([0-9]{1,4})([mhd])", text, re.ASCII)
    if match is None or not int(match[1]):
        raise UsageError(f"--for {text}: expected a number with m, h or d behind it, such as 2h")
    return int(match[1]) * _SECONDS[match[2]]
