"""A log that grows by hand, a local ledger that stops and comes back, and a mirror that may lie."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anchors.hcs27 import AnchorMessage, parse_anchor
from anchors.hedera.client import HederaLedger
from anchors.hedera.keys import create_operator_key, load_operator_key, public_key_bytes
from anchors.hedera.server import ServerHandle, serve
from anchors.ledger import LedgerMessage
from pipeline import topics
from pipeline.anchor import anchor
from pipeline.ledgers import LedgerAccess, ledger_access
from pipeline.settings import Settings
from pipeline.stage import Health, Stop
from pipeline.trust import init_local, load_trust, operator_key_path, trust_path
from processors.merkle.tree import TreeBuilder
from schemas.codec import CODEC
from tests.kit.deployment import Deployment, wait_for
from tests.kit.epochlog import publish

_names = itertools.count(1)

PROGRAM = """
import importlib, json, os, signal, sys
from pipeline import anchor
from pipeline.settings import Settings

spec = json.loads(sys.argv[1])
if spec["moment"]:
    module, owner, name, when = spec["moment"]
    target = getattr(importlib.import_module(module), owner)
    real = getattr(target, name)

    def killed(*arguments):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(target, name, killed)
anchor.run(Settings(**spec["settings"]), 0)
"""


@dataclass
class Bench:
    """One log and one ledger, of one test."""

    deployment: Deployment
    folder: Path
    settings: Settings = field(init=False)
    handle: ServerHandle | None = None
    tree: TreeBuilder = field(default_factory=TreeBuilder)
    roots: dict[int, bytes] = field(default_factory=dict)
    _ports: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.settings = self.deployment.settings.model_copy(
            update={
                "data_dir": self.folder / "data",
                "log_name": f"anchor-{next(_names)}-{self.folder.name}.example",
                "anchor_interval_s": 0.3,
            }
        )
        self.settings.data_dir.mkdir()
        init_local(self.settings)
        create_operator_key(operator_key_path(self.settings))

    # ---- the ledger ------------------------------------------------------------------------------------

    def ledger_up(self) -> None:
        """Start it, on the ports and the database of last time."""
        key = public_key_bytes(load_operator_key(operator_key_path(self.settings)))
        self.handle = serve(self.folder / "ledger.sqlite", *self._ports, operators={"0.0.2": key})
        self._ports = (self.handle.grpc_port, self.handle.rest_port)
        ports = {"grpc_port": self._ports[0], "rest_port": self._ports[1]}
        (self.settings.data_dir / "stack.json").write_text(json.dumps({"ledger": ports}))

    def ledger_down(self) -> None:
        if self.handle is not None:
            self.handle.stop()
            self.handle = None

    def access(self, **changes: Any) -> LedgerAccess:
        """As the settings say, with changes to the client's settings."""
        return LedgerAccess(replace(ledger_access(self.settings).config, **changes))

    def messages(self) -> list[LedgerMessage]:
        """What stands in the topic that the trust file names, recomputed."""
        topic = load_trust(trust_path(self.settings)).ledger.topic
        if not topic:
            return []
        ledger = HederaLedger(self.access().config, topic)
        try:
            return list(ledger.history(None))
        finally:
            ledger.close()

    def anchors(self) -> list[AnchorMessage]:
        return [parse_anchor(message.message) for message in self.messages()]

    # ---- the log ---------------------------------------------------------------------------------------

    def grow(self, leaves: int, text: str = "leaf") -> int:
        """Publish a larger epoch log, as the sealer does; returns its size."""
        entries = [f"{text} {self.tree.size + i}".encode() for i in range(leaves)]
        size, root = publish(self.settings, self.tree, entries)
        self.roots[size] = root
        return size

    # ---- the stage -------------------------------------------------------------------------------------

    @property
    def state(self) -> Path:
        return self.settings.data_dir / "state" / "anchor" / "0"

    @contextmanager
    def anchoring(
        self,
        access: LedgerAccess | None = None,
        *,
        folder: Path | None = None,
        slot: int = 0,
        settings: Settings | None = None,
    ) -> Iterator[None]:
        """Run the stage in a thread, with its database in `folder`."""
        folder = folder or self.state
        folder.mkdir(parents=True, exist_ok=True)
        stop, health = Stop(), Health(self.settings, "anchor", slot)
        failures: list[BaseException] = []

        def body() -> None:
            try:
                anchor(settings or self.settings, folder, access or self.access(), health, stop)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        try:
            yield
        finally:
            stop.request()
            thread.join(30)
            assert not thread.is_alive()
            assert not failures, failures

    @contextmanager
    def process(self, moment: tuple[str, str, str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run the stage as a process that may kill itself at a moment; it is ended with the block."""
        spec = {"settings": json.loads(self.settings.model_dump_json()), "moment": moment}
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with (self.folder / "process.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, json.dumps(spec)], env=environment, stdout=log, stderr=log
            )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            child.wait(30)

    def die_at(self, *moment: str) -> None:
        """Let a process anchor until it kills itself there."""
        assert len(moment) == 4
        with self.process(moment) as child:
            wait_for(lambda: child.poll() is not None, f"killed at {moment}")
            assert child.returncode == -signal.SIGKILL, (self.folder / "process.log").read_text()

    def detail(self, slot: int = 0) -> str:
        """What the health file says."""
        name = "anchor" if slot == 0 else f"anchor-{slot}"
        path = self.settings.data_dir / "run" / f"{name}.health.json"
        return str(json.loads(path.read_text())["detail"]) if path.exists() else ""

    # ---- what it said ----------------------------------------------------------------------------------

    def records(self, status: str) -> list[dict[str, Any]]:
        """Our records in `log.anchors` with this status."""
        read = self.deployment.read(topics.ANCHORS)
        said = [(r.key, CODEC.decode("anchor", r.value or b"")) for r in read]
        ours = [(key, s) for key, s in said if s["origin"] == self.settings.log_name]
        assert all(key == str(s["tree_size"]).encode() for key, s in ours)
        return [s for _, s in ours if s["status"] == status]

    def confirmed_sizes(self) -> set[int]:
        return {said["tree_size"] for said in self.records("CONFIRMED")}

    def wait_confirmed(self, size: int) -> None:
        wait_for(lambda: size in self.confirmed_sizes(), f"CONFIRMED for {size}; {self.detail()}")

    def check(self, *sizes: int) -> None:
        """Check that the ledger has these sizes, each once, and that what was said of them is true."""
        messages, anchors = self.messages(), self.anchors()
        assert [a.root.tree_size for a in anchors] == list(sizes)
        assert [a.root.root_hash for a in anchors] == [self.roots[s] for s in sizes]
        assert [a.previous for a in anchors] == [None, *(a.root for a in anchors[:-1])]
        assert [m.sequence for m in messages] == list(range(1, len(sizes) + 1))
        assert {a.log_id for a in anchors} == {self.settings.log_name}
        assert max(sizes) in self.confirmed_sizes()
        self.check_claims()

    def check_claims(self) -> None:
        """Check each CONFIRMED against the ledger: the first message of its size, whatever came later."""
        first: dict[int, LedgerMessage] = {}
        for message in self.messages():
            first.setdefault(parse_anchor(message.message).root.tree_size, message)
        for said in self.records("CONFIRMED"):
            message = first[said["tree_size"]]
            assert said["sequence"] == message.sequence
            assert said["running_hash"] == message.running_hash
            assert said["consensus_timestamp_ns"] == message.consensus_time_ns
            assert said["payer"] == message.payer
            assert said["root"] == self.roots[said["tree_size"]]


def count_sizes(anchors: list[AnchorMessage]) -> Counter[int]:
    return Counter(a.root.tree_size for a in anchors)
