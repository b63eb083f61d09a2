"""`attestream party check|sign|list`: who is told of which alerts, in one signed file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import AuthorityKey, DataDir, settings_from

if TYPE_CHECKING:
    from schemas.parties import Parties

File = Annotated[Path, typer.Argument(metavar="FILE", help="JSON; docs/alerts.md describes it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    party = typer.Typer(help="Parties that are told of alerts.", no_args_is_help=True)
    party.callback()(_party)
    for function, name in ((check, "check"), (sign, "sign"), (list_parties, "list")):
        party.command(name=name)(function)
    app.add_typer(party, name="party")


def _party() -> None:
    """Subscribe parties to alerts."""


def check(file: File, *, data_dir: DataDir = None) -> None:
    """Read a file, signed or not, and say what it means; exit 1 when nobody could use it."""
    from pipeline.parties import check_file

    parties, signed = check_file(settings_from(data_dir), _read(file))
    _show(parties)
    print("signed as the trust file demands" if signed else "not signed: `attestream party sign` does it")


def sign(
    file: File,
    *,
    data_dir: DataDir = None,
    key: AuthorityKey = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where it goes.  [default: in force in the data folder]")
    ] = None,
) -> None:
    """Sign a file as an authority. Without --out it is in force at once; its version must be new."""
    from pipeline.identity import load_identity
    from pipeline.parties import enforce, sign_parties
    from pipeline.trust import authority_identity

    settings = settings_from(data_dir)
    identity = load_identity(key) if key is not None else authority_identity(settings)
    data, parties = sign_parties(settings, _read(file), identity)
    if out is not None:
        out.write_bytes(data)
        print(f"{out}: version {parties.version} with {len(parties.parties)} parties")
        return
    path = enforce(settings, data)
    print(f"{path}: version {parties.version} with {len(parties.parties)} parties is in force")


def list_parties(*, data_dir: DataDir = None) -> None:
    """List the parties that are subscribed now, their filters and outputs."""
    from pipeline.parties import has_parties, read_parties

    settings = settings_from(data_dir)
    if not has_parties(settings):
        print("nobody is subscribed: there is no parties file")
        return
    _show(read_parties(settings))


def _read(file: Path) -> bytes:
    from pipeline.settings import UsageError

    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error


def _show(parties: "Parties") -> None:
    print(f"version {parties.version} of {parties.log_name}, {len(parties.parties)} parties")
    for party in parties.parties:
        print(f"{party.name}: {party.filter.describe()}")
        for output in party.outputs:
            secret = f", secret in {output.secret}" if output.secret else ""
            print(f"  {output.name}: {output.kind} {output.target}{secret}")
