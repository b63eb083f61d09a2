"""`attestream entry show|sign|submit`: entries that take several authorities, before they are published."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import AuthorityKey, DataDir, keep, on_kafka, settings_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.settings import Settings

EntryFile = Annotated[
    Path, typer.Argument(metavar="ENTRY", exists=True, dir_okay=False, help="What --out wrote.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    entry = typer.Typer(help="Entries that several authorities sign.", no_args_is_help=True)
    entry.callback()(_entry)
    entry.command(name="show")(show)
    entry.command(name="sign")(sign)
    entry.command(name="submit")(submit)
    app.add_typer(entry, name="entry")


def _entry() -> None:
    """Sign and submit what a command with --out wrote: for the registry, the policies, or about alerts."""


def show(entry: EntryFile) -> None:
    """Print what an entry would do, and who has signed it; checks no signature."""
    from pipeline.entries import read_entry

    with _blaming(entry):
        _kind, envelope, what = read_entry(entry.read_bytes())
    _say(what)
    print("signed by " + ", ".join(_plain(each.key_id) for each in envelope.signatures))


def sign(entry: EntryFile, *, data_dir: DataDir = None, key: AuthorityKey = None) -> None:
    """Sign an entry as one more authority, and say what it would do; needs no Kafka."""
    from pipeline.entries import countersign
    from pipeline.trust import authority_identity

    settings = settings_from(data_dir)
    identity = authority_identity(settings, key)
    with _blaming(entry):
        envelope, what = countersign(entry.read_bytes(), settings.log_name, identity)
    _say(what)
    keep(entry, envelope)


@on_kafka
def submit(settings: "Settings", entry: EntryFile) -> None:
    """Put an entry into force that as many authorities have signed as the trust file demands."""
    from pipeline.entries import read_entry
    from pipeline.submitting import submit as put

    value = entry.read_bytes()
    with _blaming(entry):
        kind, _envelope, what = read_entry(value)
        put(settings, kind, value)
    print(f"{_plain(str(what['subject']))}: version {what['version']} is taken")


@contextmanager
def _blaming(entry: Path) -> "Iterator[None]":
    """Name the file in what its bytes are refused for."""
    from pipeline.settings import UsageError
    from schemas.errors import FormatError

    try:
        yield
    except FormatError as error:
        raise UsageError(f"{entry}: {error}") from error


def _say(what: "Mapping[str, Any]") -> None:
    """Print an entry, its texts last; whose words they are nobody knows yet."""
    print(f"{what['action']} {_plain(str(what['subject']))} version {what['version']}")
    told = {"subject", "version", "action", "previous_digest", "time"}
    for name, value in what.items():
        if name in told or value in (None, "", [], {}, 0):
            continue
        if isinstance(value, str) and "\n" in value:
            print(_plain(value.rstrip(), keep="\n"))
        else:
            print(f"  {name}: {_plain(_short(value))}")


def _short(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return ", ".join(f"{name}={_short(each)}" for name, each in value.items())
    return ", ".join(map(_short, value)) if isinstance(value, list) else str(value)


def _plain(text: str, keep: str = "") -> str:
    """Show what cannot be printed as an escape: it must not paint over what the signer sees."""
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
