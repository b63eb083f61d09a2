"""A world around one anchor worker: a local ledger, nodes and a mirror in front of it, a growing epoch log.

The ledger runs in this process and can be restarted. Schedules follow one another on the same log and the
same ledger topic.
"""

import contextlib
import random
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from anchors.hedera.keys import create_operator_key, load_operator_key, public_key_bytes
from anchors.hedera.server import ServerHandle, serve
from anchors.witness.memory import Memory
from anchors.witness.witness import KnownLog, Witness
from pipeline import kafka, topics
from pipeline.cli.witness import _is_consistent
from pipeline.local import kafka as local_kafka
from pipeline.settings import Settings
from pipeline.trust import init_local, load_trust, operator_key_path, trust_path
from processors.merkle.tree import TreeBuilder
from tests.faults.machine.ledger import Violation
from tests.faults.machine.ledgerproxy import HttpReply, forwarded, http_peer, node_in_front
from tests.faults.machine.ledgers.judge import Judge
from tests.faults.machine.ledgers.mirror import MirrorFront
from tests.faults.machine.ledgers.nodes import NodeFront
from tests.faults.machine.ledgers.workers import AnchorWorkers
from tests.faults.machine.zygote import Zygote
from tests.kit.epochlog import log_signer, publish
from tests.kit.witnesses import cosigner, policy_text, served

INTERVAL_S = 0.3
CALL_S = 0.5
LONG_VALID_S = 120
SHORT_VALID_S = 2
TOPIC_DEADLINE_S = 30.0
NODES = ("0.0.3", "0.0.4")
PRELOADED = ("hiero_sdk_python.transaction.transaction",)


class LedgerWorld:
    """A context manager; `bootstrap` is Kafka, empty for a broker of its own."""

    def __init__(
        self, folder: Path, zygote: Zygote, seed: int, broken: str = "", bootstrap: str = ""
    ) -> None:
        self.folder, self.rng, self._zygote, self._broken = folder, random.Random(seed), zygote, broken
        self._bootstrap = bootstrap
        self.data_dir = folder / "data"
        self.faults: dict[str, int] = {}
        self.violations: list[Violation] = []
        self.healed_in_s: list[float] = []
        """From the end of all faults to the newest root's anchor, of each schedule."""
        self.nodes = NodeFront(self.rng, CALL_S)
        self.mirror = MirrorFront(self.rng, CALL_S, self.nodes.refused)
        self.witness_mode = ""
        self.repeats = 0
        """How often a size may stand on the ledger beyond once, after the faults of this schedule."""
        self.is_memory_lost = False
        self.chosen: list[str] = []
        """The kinds of fault of this schedule."""
        self._tree = TreeBuilder()
        self._ledger: ServerHandle | None = None
        self._ports = (0, 0)
        self._growth: threading.Thread | None = None
        self._growth_ends = threading.Event()

    # ---- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            if not self._bootstrap:
                self._bootstrap = undo.enter_context(local_kafka.running_kafka(self.folder / "kafka"))
            self.settings = self._make_settings()
            topics.apply(kafka.admin(self.settings), self.settings)
            init_local(self.settings)
            create_operator_key(operator_key_path(self.settings))
            undo.callback(self.ledger_down)
            self.ledger_up()
            grpc_address = f"127.0.0.1:{self._ports[0]}"
            fronts = [undo.enter_context(node_in_front(grpc_address, self.nodes.behave)) for _ in NODES]
            mirror_url = undo.enter_context(http_peer(self.mirror.answer))
            policy = self.folder / "policy"
            policy.write_text(policy_text({"w": self._witness(undo)}, "any"))
            self.settings = self.settings.model_copy(
                update={
                    "ledger_nodes": dict(zip(NODES, fronts, strict=True)),
                    "ledger_mirror_url": mirror_url,
                    "witness_policy": policy,
                }
            )
            trust = load_trust(trust_path(self.settings))
            self._judge = Judge(
                self._bootstrap, self.data_dir / "log", self.settings.log_name, trust.log_keys[0],
                self.folder / "ledger.sqlite", self.mirror.shown_at,
            )  # fmt: skip
            undo.callback(self._judge.close)
            self.grow(3)
            self.workers = undo.enter_context(
                AnchorWorkers(self.folder, self._zygote, self.settings, self.tell, self._broken)
            )
            self._make_topic()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_growth()
        self.nodes.heal()
        self.mirror.heal()
        self._undo.close()

    def _make_settings(self) -> Settings:
        return Settings(
            data_dir=self.data_dir,
            log_name=f"ledger-{self.rng.getrandbits(32):08x}.example",
            bootstrap_servers=self._bootstrap,
            partitions=2,
            anchor_interval_s=INTERVAL_S,
            ledger_call_timeout_s=CALL_S,
            ledger_valid_s=LONG_VALID_S,
            ledger_resubmit_s=2 * INTERVAL_S,
            witness_deadline_s=CALL_S,
        )

    def _make_topic(self) -> None:
        """Let one worker create the ledger's topic, before there is a second machine that might as well."""
        self.workers.start()
        until = time.monotonic() + TOPIC_DEADLINE_S
        while not self.ledger_topic:
            if time.monotonic() > until:
                raise TimeoutError(f"no ledger topic: {self.workers.detail()}")
            time.sleep(0.05)

    def _witness(self, undo: contextlib.ExitStack) -> str:
        known = [KnownLog(self.settings.log_name, log_signer(self.settings).verifier)]
        memory = Memory(self.folder / "witness.sqlite")
        url = undo.enter_context(served(Witness(cosigner("w"), known, memory, _is_consistent)))

        def answer(path: str, body: bytes) -> HttpReply | None:
            match self.witness_mode:
                case "hangs":
                    time.sleep(2 * CALL_S)
                    return None
                case "errors":
                    return HttpReply(b"", 503)
                case "down":
                    return None
            return forwarded(url + path, body, "text/plain")

        return undo.enter_context(http_peer(answer))

    def count(self, kind: str) -> None:
        """Note an injected fault."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def tell(self, invariant: str, what: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(invariant, what))

    # ---- the ledger and the log ------------------------------------------------------------------------

    def ledger_up(self) -> None:
        """Start it, on the ports and the database of last time."""
        if self._ledger is None:
            key = public_key_bytes(load_operator_key(operator_key_path(self.settings)))
            path = self.folder / "ledger.sqlite"
            self._ledger = serve(path, *self._ports, operators={"0.0.2": key}, nodes=NODES)
            self._ports = (self._ledger.grpc_port, self._ledger.rest_port)
            self.mirror.url = f"http://127.0.0.1:{self._ledger.rest_port}"

    def ledger_down(self) -> None:
        """Stop it: nodes and mirror are away."""
        if self._ledger is not None:
            self._ledger.stop()
            self._ledger = None

    @property
    def size(self) -> int:
        """Leaves of the epoch log."""
        return self._tree.size

    @property
    def ledger_topic(self) -> str:
        """The topic that carries the anchors; empty before the first."""
        return load_trust(trust_path(self.settings)).ledger.topic

    def grow(self, leaves: int) -> None:
        """Publish a larger epoch log; nobody waits for anybody."""
        first = self._tree.size
        publish(self.settings, self._tree, [b"leaf %d" % (first + n) for n in range(leaves)])

    def begin_growth(self) -> None:
        """Grow in the background, as a sealer does."""
        self._growth_ends.clear()
        rng = random.Random(self.rng.getrandbits(32))

        def body() -> None:
            while not self._growth_ends.wait(rng.uniform(0.05, 0.5)):
                self.grow(rng.randint(1, 4))

        self._growth = threading.Thread(target=body, name="growth")
        self._growth.start()

    def end_growth(self) -> None:
        """Stop growing."""
        self._growth_ends.set()
        if self._growth is not None:
            self._growth.join()
            self._growth = None

    # ---- the end of a schedule -------------------------------------------------------------------------

    def heal(self) -> None:
        """Take every fault back."""
        self.nodes.heal()
        self.mirror.heal()
        self.witness_mode = ""
        self.ledger_up()
        self.workers.heal()

    def settle(self, deadline_s: float) -> None:
        """Wait until the newest root is said to be anchored; a violation where it never is."""
        self.grow(1)
        began_s = time.monotonic()
        while time.monotonic() - began_s < deadline_s:
            if self._judge.confirmed_size >= self.size:
                self.healed_in_s.append(time.monotonic() - began_s)
                return
            time.sleep(0.1)
        what = f"after {deadline_s:.0f} s {self.size} leaves are not anchored: {self.workers.detail()}"
        self.tell("stalled", what)

    def judge(self) -> list[Violation]:
        """Ask the judge, and take what was found meanwhile."""
        found = self.violations + self._judge.judge(self.repeats, is_memory_lost=self.is_memory_lost)
        self.violations, self.repeats, self.is_memory_lost = [], 0, False
        return found
