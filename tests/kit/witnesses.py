"""Logs to be witnessed, witnesses as processes, and witnesses that lie, hang or send nonsense."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anchors.witness.addcheckpoint import AddCheckpoint
from anchors.witness.memory import Memory
from anchors.witness.server import serve
from anchors.witness.witness import KnownLog, Witness
from pipeline.cli.witness import _is_consistent
from pipeline.identity import save_identity
from processors.merkle.reader import TiledTree
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint
from schemas.did import encode_did_key
from schemas.ed25519 import public_key
from schemas.note import CosignatureSigner, Ed25519Signer, Note, Signature, format_note
from schemas.signing import SigningIdentity
from schemas.tile import TILE_WIDTH
from schemas.witnesspolicy import WitnessPolicy, parse_policy
from tests.faults.machine.ledgerproxy import HttpReply, http_peer
from tests.kit.deployment import wait_for

LOG_SEED = bytes([77] * 32)
READY = re.compile(r"^witness (\S+) (\S+) (http://\S+)$", re.MULTILINE)


@dataclass
class TiledLog:
    """A log in memory that can be asked for any of its checkpoints and proofs."""

    origin: str = "ward.example"
    text: str = "leaf"
    signed_by: Ed25519Signer | None = None
    _builder: TreeBuilder = field(default_factory=TreeBuilder)
    _tiles: dict[str, bytes] = field(default_factory=dict)
    _roots: dict[int, bytes] = field(default_factory=dict)

    @property
    def signer(self) -> Ed25519Signer:
        return self.signed_by or Ed25519Signer.from_seed(self.origin, LOG_SEED)

    def grow(self, size: int) -> SignedCheckpoint:
        """Append leaves until there are `size` and return the signed checkpoint."""
        entries = [f"{self.text} {index}".encode() for index in range(self._builder.size, size)]
        for start in range(0, len(entries), TILE_WIDTH):
            full = self._builder.append(entries[start : start + TILE_WIDTH])
            self._tiles.update({each.tile.path: each.data for each in full})
        self._tiles.update({each.tile.path: each.data for each in self._builder.edge()})
        self._roots[size] = self._builder.root()
        return self.signed(size)

    def signed(self, size: int, signers: Sequence[Ed25519Signer] = ()) -> SignedCheckpoint:
        checkpoint = Checkpoint(self.origin, size, self._roots[size])
        return SignedCheckpoint(checkpoint, sign_checkpoint(checkpoint, signers or [self.signer]))

    def prove(self, size: int) -> Callable[[int], Sequence[bytes]]:
        tree = TiledTree(self, size, self._roots[size])
        return tree.consistency_proof

    def request(self, old_size: int, size: int) -> bytes:
        """An add-checkpoint body with the right proof."""
        proof = self.prove(size)(old_size) if 0 < old_size < size else []
        return AddCheckpoint(old_size, tuple(proof), format_note(self.signed(size).note)).encode()

    def read(self, path: str) -> bytes | None:
        return self._tiles.get(path)


def witness_seed(name: str) -> bytes:
    return name.encode().ljust(32, b"\x55")[:32]


def cosigner(name: str, time_s: int = 0) -> CosignatureSigner:
    return CosignatureSigner.from_seed(f"{name}.example", witness_seed(name), time_s)


def policy_of(witnesses: Mapping[str, str | None], quorum: str) -> WitnessPolicy:
    return parse_policy(policy_text(witnesses, quorum))


def policy_text(witnesses: Mapping[str, str | None], quorum: str) -> str:
    """`quorum` is all, any, a number, or none."""
    lines = [f"witness {name} {cosigner(name).verifier} {url or ''}" for name, url in witnesses.items()]
    lines += ["quorum none"] if quorum == "none" else [f"group g {quorum} {' '.join(witnesses)}", "quorum g"]
    return "".join(f"{line}\n" for line in lines)


def new_witness(path: Path, log: TiledLog, name: str = "w", **named: Any) -> Witness:
    """A witness in this process that knows one log."""
    known = [KnownLog(log.origin, log.signer.verifier)]
    return Witness(cosigner(name), known, Memory(path), _is_consistent, **named)


@contextmanager
def served(witness: Witness, port: int = 0) -> Iterator[str]:
    handle = serve(witness, port=port)
    try:
        yield handle.url
    finally:
        handle.stop()


@dataclass
class WitnessProcess:
    """`attestream witness serve` for one log, on one port, to be killed and started again."""

    folder: Path
    name: str
    log_vkey: str
    port: int = 0
    _child: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it and return its URL, the same each time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key_file, seed = self.folder / f"{self.name}.key.json", witness_seed(self.name)
        if not key_file.exists():
            identity = SigningIdentity(encode_did_key(public_key(seed)), f"{self.name}.example", seed)
            save_identity(key_file, identity)
        output = self.folder / f"{self.name}.out"
        output.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pipeline.cli.main", "witness", "serve", "--key", str(key_file)]
        command += ["--log", self.log_vkey, "--db", str(self.folder / f"{self.name}.sqlite")]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with output.open("wb") as out:
            child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        self._child = child

        def ready() -> re.Match[str] | None:
            assert child.poll() is None, output.read_text()
            return READY.search(output.read_text())

        try:
            found = wait_for(ready, f"witness {self.name} is ready")
        except BaseException:
            self.kill()
            raise
        assert found[2] == str(cosigner(self.name).verifier)
        self.port = int(found[3].rpartition(":")[2])
        return found[3]

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(30)
            self._child = None

    def stop(self) -> int:
        assert self._child is not None
        self._child.terminate()
        code = self._child.wait(30)
        self._child = None
        return code


Reply = Callable[[bytes], tuple[int, str, bytes]]
"""The request's body in; status, content type, body out."""


@contextmanager
def answering(reply: Reply, headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """A witness that answers as it pleases."""

    def answer(_path: str, body: bytes) -> HttpReply:
        status, content_type, data = reply(body)
        return HttpReply(data, status, content_type, headers=headers or {})

    with http_peer(answer) as url:
        yield url


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A peer below HTTP: `talk` gets each connection; the connections end with the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=quietly, args=(connection,), daemon=True).start()

    def quietly(connection: socket.socket) -> None:
        with suppress(OSError):
            talk(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # Wakes the thread that accepts, which closing alone does not.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def hangs(connection: socket.socket) -> None:
    """Takes all and answers nothing."""
    while connection.recv(65536):
        pass


def checkpoint_of(body: bytes) -> Note:
    """The note within an add-checkpoint body."""
    from anchors.witness.addcheckpoint import parse_add_checkpoint
    from schemas.note import parse_note

    return parse_note(parse_add_checkpoint(body).checkpoint)


def cosignature(name: str, text: str, time_s: int) -> Signature:
    signer = cosigner(name, time_s)
    return Signature(signer.name, signer.key_id, signer.sign(text.encode()))
