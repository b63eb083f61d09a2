"""A world around correlate, route and deliver: a broker of its own, two parties, receivers that keep all.

Schedules follow one another on the same growing topics.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline import kafka, topics
from pipeline.authority import Authority, NewKey
from pipeline.identity import create_identity
from pipeline.local import kafka as local_kafka
from pipeline.local.process import stop
from pipeline.parties import read_parties
from pipeline.partytopics import party_topics
from pipeline.settings import Settings
from pipeline.trust import init_local
from tests.faults.machine.ledger import Violation
from tests.faults.machine.notify.oracle import NotifyOracle, Reading
from tests.faults.machine.notify.receivers import SseReceiver, WebhookReceiver
from tests.faults.machine.notify.workers import STAGES, NotifyWorkers
from tests.faults.machine.notify.workload import NotifyWorkload
from tests.faults.machine.zygote import Zygote
from tests.kit.receivers import LOOPBACK
from tests.kit.subscribed import subscribe

SESSION_S = 2.0
TRANSACTION_S = 4.0
PARTITIONS = 2
DEVICES = 12
WARDS = ("ICU-1", "ICU-2", "ER")
SECRET = "whsec_" + "bm90IGEgc2VjcmV0LCBidXQgbG9uZyBlbm91Z2g="
SETTLE_PAUSE_S = 0.3
WAITS_S = 20.0
PRELOADED = (
    "faust.app.base", "faust.transport.drivers.aiokafka", "standardwebhooks.webhooks", "aiohttp.web",
)  # fmt: skip


class NotifyWorld:
    """A context manager; use it from one thread, which the broker's life is tied to."""

    def __init__(self, folder: Path, zygote: Zygote, seed: int, broken: str = "") -> None:
        self.folder, self.rng, self._zygote, self._broken = folder, random.Random(seed), zygote, broken
        self.data_dir = folder / "data"
        self.faults: dict[str, int] = {}
        self.violations: list[Violation] = []
        self.chosen: list[str] = []
        """The kinds of fault of this schedule."""
        self.healed_in_s: list[float] = []
        """From the end of all faults until all was quiet, of each schedule."""

    # ---- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self._start_broker(undo)
            self.settings = Settings(
                data_dir=self.data_dir,
                log_name=f"notify-{self.rng.getrandbits(32):08x}.example",
                bootstrap_servers=self._broker.bootstrap_servers,
                partitions=PARTITIONS,
                session_timeout_s=SESSION_S,
                transaction_timeout_s=TRANSACTION_S,
                topic_check_s=0.5,
                batch_records=200,
            )
            admin = kafka.admin(self.settings)
            topics.apply(admin, self.settings)
            init_local(self.settings)
            wards = self._enroll()
            self.hooks = {
                party: undo.enter_context(WebhookReceiver(SECRET, self.rng)) for party in ("soc", "icu")
            }
            self.sse = undo.enter_context(SseReceiver())
            parties = self._subscribe()
            topics.apply(admin, self.settings, party_topics(read_parties(self.settings)))
            arrivals = {(party, "hook"): hook.arrivals for party, hook in self.hooks.items()}
            self.oracle = NotifyOracle(parties, wards, {**arrivals, ("icu", "live"): self.sse.arrivals})
            bootstrap, name = self.settings.bootstrap(), self.settings.log_name
            self._reading = Reading(bootstrap, name, PARTITIONS, self.oracle)
            undo.callback(self._reading.close)
            self.traffic = NotifyWorkload(self.settings, list(wards), self.rng)
            undo.callback(self.traffic.end)
            self.workers = undo.enter_context(
                NotifyWorkers(self.folder, self._zygote, self.settings, self.tell, self._broken)
            )
            self.workers.heal()
            self.wait_for(lambda: all(self.workers.says(each).startswith("running") for each in STAGES))
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resume_broker()
        self._undo.close()

    def _start_broker(self, undo: contextlib.ExitStack) -> None:
        self._broker = local_kafka.Broker(self.data_dir)
        self._broker.extra_properties = {"group.min.session.timeout.ms": "500"}
        undo.enter_context(self._broker.owned())
        self._broker.prepare()
        self._broker_process = local_kafka.start(self._broker)
        undo.callback(lambda: stop(self._broker_process, 5))

    def _enroll(self) -> dict[str, str]:
        """Register devices; return their wards."""
        with contextlib.closing(Authority(self.settings)) as authority:
            made = [create_identity("k1", seed=self.rng.randbytes(32)) for _ in range(DEVICES)]
            wards = {each.did: self.rng.choice(WARDS) for each in made}
            authority.enroll_many(
                [(each.did, NewKey("k1", each.public_key), {"ward": wards[each.did]}) for each in made]
            )
        return wards

    def _subscribe(self) -> list[dict[str, Any]]:
        """Put the parties file in force; return its list."""
        secret = self.folder / "secret"
        secret.touch(0o600)
        secret.write_text(SECRET)
        outputs: dict[str, list[dict[str, Any]]] = {
            party: [
                {"name": "hook", "kind": "webhook", "url": hook.url, "secret": {"file": str(secret)},
                 "allow": [LOOPBACK]}
            ]
            for party, hook in self.hooks.items()
        }  # fmt: skip
        outputs["icu"].append({"name": "live", "kind": "sse", "listen": f"127.0.0.1:{self.sse.port}"})
        filters: dict[str, dict[str, Any]] = {
            "soc": {"severity": "medium"},
            "icu": {"wards": list(WARDS[:2])},
        }
        parties = [{"name": name, "filter": filters[name], "outputs": outputs[name]} for name in outputs]
        subscribe(self.settings, 1, parties)
        return parties

    def count(self, kind: str, times: int) -> None:
        """Note how often a fault struck."""
        self.faults[kind] = self.faults.get(kind, 0) + times

    def tell(self, invariant: str, what: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(invariant, what))

    def pause_broker(self) -> None:
        """SIGSTOP."""
        os.kill(self._broker_process.pid, signal.SIGSTOP)

    def resume_broker(self) -> None:
        """SIGCONT."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._broker_process.pid, signal.SIGCONT)

    def wait_for(self, probe: Callable[[], bool]) -> bool:
        """Poll; False at the deadline, for the caller to go on otherwise."""
        until = time.monotonic() + WAITS_S
        while time.monotonic() < until:
            if probe():
                return True
            time.sleep(0.05)
        return False

    # ---- the end of a schedule -------------------------------------------------------------------------

    def heal(self) -> None:
        """Take every fault back."""
        self.resume_broker()
        self.workers.heal()
        for hook in self.hooks.values():
            hook.heal()
        self.sse.up()

    def settle(self, deadline_s: float) -> None:
        """Wait until every record is told of, routed and delivered; a violation where that never is."""
        began_s = time.monotonic()
        waiting = ""
        while time.monotonic() - began_s < deadline_s:
            waiting = self._reading.pending()
            if not waiting:
                self.healed_in_s.append(time.monotonic() - began_s)
                return
            time.sleep(SETTLE_PAUSE_S)
        self.tell("stalled", f"after {deadline_s:.0f} s: {waiting}; {self.workers.dump()}")

    def judge(self, *, is_calm: bool) -> list[Violation]:
        """Ask the oracle, and take what was found meanwhile; `is_calm` as in `Told.judge`."""
        found = [*self.violations, *self.oracle.judge(is_calm=is_calm)]
        self.violations = []
        return found
