"""`attestream witness key`, `serve` and `log-key`: a witness for a hospital, a maker, a regulator."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import DataDir, settings_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anchors.witness.server import WitnessHandle
    from anchors.witness.witness import KnownLog
    from schemas.note import CosignatureSigner

KeyFile = Annotated[Path, typer.Option("--key", help="The witness's private key, a file with mode 0600.")]

_LOG = re.compile(r"(?P<vkey>[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+)(=(?P<origin>.+))?")
_ADDRESS = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\s]+)):(?P<port>[0-9]{1,5})")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    witness = typer.Typer(help="A witness of our own: cosigns logs that only grow.", no_args_is_help=True)
    witness.callback()(_witness)
    witness.command(name="key")(key)
    witness.command(name="serve")(serve)
    witness.command(name="log-key")(show_log_key)
    app.add_typer(witness, name="witness")


def _witness() -> None:
    """Cosign the checkpoints of logs that only grow, as C2SP tlog-witness says."""


def key(
    key_file: KeyFile,
    name: Annotated[
        str, typer.Option("--name", help="Who cosigns, a URL without scheme: witness.hospital.example")
    ],
) -> None:
    """Make a witness key if there is none, and print its vkey."""
    from pipeline.identity import load_or_create
    from pipeline.settings import UsageError
    from schemas.ed25519 import SEED_BYTES
    from schemas.errors import FormatError
    from schemas.note import CosignatureSigner

    try:
        _ = CosignatureSigner.from_seed(name, bytes(SEED_BYTES), time_s=0).verifier
    except FormatError as error:
        raise UsageError(f"--name: {error}") from error
    found = load_or_create(key_file, name).key_id
    if found != name:
        raise UsageError(f"{key_file} is the key of {found}, not of {name}")
    print(_signer(key_file).verifier)


def serve(
    key_file: KeyFile,
    log: Annotated[
        list[str],
        typer.Option("--log", metavar="VKEY[=ORIGIN]", help="A log to cosign; repeat it for more."),
    ],
    database: Annotated[
        Path, typer.Option("--db", help="What was cosigned. Never lose it, never restore an old copy.")
    ],
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT")] = "127.0.0.1:0",
) -> None:
    """Serve a witness over plain HTTP until SIGTERM."""
    from anchors.witness.memory import Memory
    from anchors.witness.server import run
    from anchors.witness.witness import Witness
    from pipeline.local.leash import hold_leash
    from pipeline.stage import configure_logging

    signer = _signer(key_file)
    host, port = _address(listen)
    logs = _logs(log)
    configure_logging()
    hold_leash(_leave)
    memory = Memory(database)
    try:
        witness = Witness(signer, logs, memory, _is_consistent)
        run(witness, host, port, lambda handle: _say_ready(witness.key, handle, memory.is_new))
    finally:
        memory.close()


def show_log_key(data_dir: DataDir = None) -> None:
    """Print the vkey of our log, for a witness's --log."""
    from pipeline.trust import load_trust, trust_path
    from schemas.checkpoint import log_key

    trust = load_trust(trust_path(settings_from(data_dir)))
    print(log_key(trust.log_name, trust.log_key))


def _signer(key_file: Path) -> "CosignatureSigner":
    from pipeline.identity import load_identity
    from schemas.note import CosignatureSigner

    identity = load_identity(key_file)
    return CosignatureSigner.from_seed(identity.key_id, identity.seed, time_s=0)


def _logs(given: "Sequence[str]") -> "list[KnownLog]":
    from anchors.witness.witness import KnownLog
    from pipeline.settings import UsageError
    from schemas.errors import FormatError
    from schemas.note import parse_vkey

    logs = []
    for text in given:
        found = _LOG.fullmatch(text)
        if found is None:
            raise UsageError(f"--log {text}: not a vkey, name+hash+key, with =ORIGIN where it differs")
        try:
            verifier = parse_vkey(found["vkey"])
        except FormatError as error:
            raise UsageError(f"--log {text}: {error}") from error
        logs.append(KnownLog(found["origin"] or verifier.name, verifier))
    return logs


def _address(listen: str) -> tuple[str, int]:
    from pipeline.settings import UsageError

    found = _ADDRESS.fullmatch(listen)
    if found is None or int(found["port"]) > 65535:
        raise UsageError(f"--listen {listen}: not HOST:PORT")
    return found["v6"] or found["host"], int(found["port"])


def _is_consistent(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: "Sequence[bytes]"
) -> bool:
    from processors.merkle.errors import ProofError
    from processors.merkle.proof import verify_consistency

    try:
        verify_consistency(old_size, old_root, new_size, new_root, proof)
    except ProofError:
        return False
    return True


def _say_ready(key: object, handle: "WitnessHandle", is_new: bool) -> None:
    name = str(key).partition("+")[0]
    print(f"witness {name} {key} {handle.url}", flush=True)
    if is_new:
        print("its memory is new: it takes the first checkpoint of each log as it comes", flush=True)


def _leave() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGTERM)
