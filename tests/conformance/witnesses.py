"""Two witnesses that nobody here wrote, on loopback, with our log registered as their operators do it."""

import base64
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from schemas.checkpoint import EMPTY_ROOT
from schemas.ed25519 import public_key
from schemas.note import COSIGNATURE_V1, VerifierKey, parse_vkey
from tests.conformance.processes import Answer, ServerError, ask, listening_port, running, wait_for_file
from tests.conformance.tools import PythonTools

ANY_PORT = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class ForeignWitness:
    """A running witness: the tool's name, its key, and where it takes checkpoints."""

    tool: str
    key: VerifierKey
    url: str


@contextmanager
def aics_witness(tools: PythonTools, folder: Path, log: VerifierKey) -> Iterator[ForeignWitness]:
    """Run aics-witness."""
    command, config = tools.command("aics-witness"), str(folder / "witness.json")
    folder.mkdir()
    made = _must(
        ask([command, "init", "-c", config, "--name", "aics.example/w", "--listen", ANY_PORT], folder)
    )
    vkey = next(line for line in made.splitlines() if line.startswith("aics.example/w+"))
    _must(ask([command, "add-log", "-c", config, "--origin", log.name, "--vkey", str(log)], folder))
    output = folder / "aics-witness.log"
    with running([command, "serve", "-c", config], output) as process:
        port = listening_port(process, output)
        yield ForeignWitness("aics-witness", parse_vkey(vkey), f"http://127.0.0.1:{port}")


@contextmanager
def lite_witness(program: str, folder: Path, log: VerifierKey) -> Iterator[ForeignWitness]:
    """Run litewitness, whose key lives in an ssh-agent, and register the log as its README does: by SQL."""
    folder.mkdir()
    seed = secrets.token_bytes(32)
    key_file, socket, database = folder / "key", folder / "agent", folder / "witness.db"
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key_file.touch(0o600)
    key_file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    key = VerifierKey("lite.example/w", COSIGNATURE_V1, public_key(seed))
    agent_log, output = folder / "ssh-agent.log", folder / "litewitness.log"
    with running(["ssh-agent", "-D", "-a", str(socket)], agent_log) as agent:
        wait_for_file(socket, agent, agent_log)
        _must(ask(["ssh-add", str(key_file)], folder, {**os.environ, "SSH_AUTH_SOCK": str(socket)}))
        command = [
            program, "-db", str(database), "-listen", ANY_PORT, "-name", key.name, "-ssh-agent", str(socket),
            "-key", hashlib.sha256(key.public_key).hexdigest(),
        ]  # fmt: skip
        with running(command, output) as process:
            port = listening_port(process, output)
            _register(database, log)
            yield ForeignWitness("litewitness", key, f"http://127.0.0.1:{port}")


def _register(database: Path, log: VerifierKey) -> None:
    empty = base64.b64encode(EMPTY_ROOT).decode()
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        connection.execute(
            "INSERT INTO log(origin, tree_size, tree_hash) VALUES (?, 0, ?)", (log.name, empty)
        )
        connection.execute("INSERT INTO key(origin, key) VALUES (?, ?)", (log.name, str(log)))


def _must(answer: Answer) -> str:
    if answer.code:
        raise ServerError(answer.output[-600:])
    return answer.output
