"""`attestream device enroll|rotate|revoke|decommission|list`: the registry, by an authority's key."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import on_kafka

if TYPE_CHECKING:
    from contextlib import closing

    from pipeline.authority import Authority
    from pipeline.settings import Settings

Did = Annotated[str, typer.Argument(metavar="DEVICE", help="DID of the device, or its key file.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    device = typer.Typer(help="Devices and their keys.", no_args_is_help=True)
    device.callback()(_device)
    for function, name in (
        (enroll, "enroll"),
        (rotate, "rotate"),
        (revoke, "revoke"),
        (decommission, "decommission"),
        (list_devices, "list"),
    ):
        device.command(name=name)(function)
    app.add_typer(device, name="device")


def _device() -> None:
    """Enrol devices, change and end their keys."""


@on_kafka
def enroll(
    settings: "Settings",
    name: Annotated[str, typer.Argument(help="A name of your own; the key goes to NAME.key.json.")],
    *,
    key_dir: Annotated[Path, typer.Option(help="Where key files are kept.")] = Path("devices"),
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", "-a", metavar="KEY=VALUE", help="ward=ICU-2, model=...")
    ] = None,
    person: Annotated[
        bool, typer.Option("--person", help="A person: the key is a credential, and signs approvals.")
    ] = False,
) -> None:
    """Make a key for a device or a person and register it."""
    from pipeline.authority import NewKey
    from pipeline.identity import create_identity, load_identity, save_identity
    from pipeline.settings import parse_assignments

    path = key_dir / f"{name}.key.json"
    if not path.exists():
        save_identity(path, create_identity("k1"))
    identity = load_identity(path)
    attributes = {"name": name, **parse_assignments(attribute or [])}
    with _authority(settings) as authority:
        purpose = "APPROVAL" if person else "EVENT"
        authority.enroll(identity.did, NewKey(identity.key_id, identity.public_key, purpose), attributes)
    print(f"enrolled {name} as {identity.did}; its key is in {path}")


@on_kafka
def rotate(
    settings: "Settings",
    key_file: Annotated[Path, typer.Argument(metavar="KEYFILE", help="The device's present key file.")],
    *,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", "-a", metavar="KEY=VALUE", help="What changes: ward=ICU-3, ..."),
    ] = None,
) -> None:
    """Give a device a new key; the old one ends at once. The new key replaces the file's content."""
    import os

    from pipeline.authority import NewKey
    from pipeline.identity import load_identity, save_identity
    from pipeline.settings import parse_assignments
    from schemas.ed25519 import SEED_BYTES
    from schemas.signing import SigningIdentity

    old = load_identity(key_file)
    changed = parse_assignments(attribute or [])
    with _authority(settings) as authority:
        subject = authority.registry.subject(old.did)
        number = len(subject.keys) + 1 if subject else 1
        new = SigningIdentity(old.did, f"k{number}", os.urandom(SEED_BYTES))
        # The new key is on disk before it is registered: a crash between leaves a file to try again with.
        staged = key_file.with_suffix(".new")
        staged.unlink(missing_ok=True)
        save_identity(staged, new)
        purpose = subject.keys[old.key_id].purpose if subject and old.key_id in subject.keys else "EVENT"
        attributes = {**subject.attributes, **changed} if subject and changed else None
        authority.rotate(old.did, NewKey(new.key_id, new.public_key, purpose), attributes)
        staged.replace(key_file)
    print(f"{old.did} signs with {new.key_id} from now on; {old.key_id} has ended")


@on_kafka
def revoke(
    settings: "Settings",
    device: Did,
    *,
    key_id: Annotated[str, typer.Option("--key", help="Which key.  [default: all that are valid]")] = "",
    compromised_since: Annotated[
        str, typer.Option(metavar="TIME", help="ISO 8601; signatures after it deserve doubt.")
    ] = "",
) -> None:
    """End a device's keys: what they sign is rejected from now on."""
    from datetime import UTC, datetime

    from pipeline.settings import UsageError

    since_us = None
    if compromised_since:
        try:
            moment = datetime.fromisoformat(compromised_since)
        except ValueError as error:
            raise UsageError(f"--compromised-since {compromised_since}: {error}") from error
        since_us = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e6)
    did = _did_of(device)
    with _authority(settings) as authority:
        subject = authority.registry.subject(did)
        if subject is None:
            raise UsageError(f"{did} is not registered")
        ended = [key_id] if key_id else [k.key_id for k in subject.keys.values() if k.revoked_at is None]
        for each in ended:
            authority.revoke(did, each, since_us)
    print(f"revoked {', '.join(ended) or 'nothing: no key was valid'} of {did}")


@on_kafka
def decommission(
    settings: "Settings",
    device: Did,
) -> None:
    """Take a device out of service for good."""
    did = _did_of(device)
    with _authority(settings) as authority:
        authority.decommission(did)
    print(f"{did} is out of service")


@on_kafka
def list_devices(
    settings: "Settings",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List every registered subject with its keys, as of the registry's end."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    with _authority(settings) as authority:
        registry = authority.registry
    if as_json:
        for subject in registry.subjects():
            print(json.dumps(asdict(subject), default=bytes.hex))
        return
    # Cells are plain text: rich would read the ":key:" of a DID as an emoji.
    table = Table("name", "version", "keys", "attributes", "device", box=None)
    table.columns[-1].overflow = "fold"
    for subject in registry.subjects():
        attributes = dict(subject.attributes)
        keys = ", ".join(
            f"{k.key_id}{' (ended)' if k.revoked_at is not None else ''}" for k in subject.keys.values()
        )
        row = (
            attributes.pop("name", ""),
            str(subject.version),
            "out of service" if subject.decommissioned_at is not None else keys,
            " ".join(f"{k}={v}" for k, v in attributes.items()),
            subject.did,
        )
        table.add_row(*map(Text, row))
    console = Console(emoji=False, markup=False, highlight=False)
    console.print(table)
    console.print(
        f"{len(registry)} subjects at registry offset {registry.offset}, "
        f"{len(registry.ignored)} entries ignored"
    )


def _did_of(device: str) -> str:
    from pipeline.identity import load_identity

    return device if device.startswith("did:") else load_identity(Path(device)).did


def _authority(settings: "Settings") -> "closing[Authority]":
    from contextlib import closing

    from pipeline.authority import Authority

    return closing(Authority(settings))
