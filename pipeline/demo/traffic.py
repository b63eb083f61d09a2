"""Publishes the fleet's events and, at seeded moments, the attacks; remembers where each attack landed.

One thread makes and publishes everything in the devices' order. It never waits for verdicts.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import KafkaError, Message

from loadtests.attacks import ATTACKS, SLOW_ATTACKS, Attack
from loadtests.fleet import CLEAN, Outgoing
from loadtests.scene import Scene
from pipeline import kafka
from pipeline.settings import Settings
from pipeline.topics import RAW_TOPIC_OF, REGISTRY
from schemas.envelope import PayloadKind
from schemas.partition import partition_of

FLUSH_DEADLINE_S = 60.0
STOP_DEADLINE_S = 5.0
STEP_S = 0.005
LOOK_UP_EVERY = 100
BROKER_LIMIT_BYTES = 1_048_588


@dataclass(slots=True)
class LaunchedAttack:
    """An attack that is under way: its victim, and where and when its records were delivered."""

    attack: Attack
    device_id: str
    launched_at_s: float
    delivered: dict[str, float] = field(default_factory=dict)
    """topic/partition/offset to the moment of the broker's acknowledgement (monotonic seconds)."""
    touched: frozenset[str] = frozenset()
    """Further devices that it is about."""


@dataclass(frozen=True, slots=True)
class ScheduledAttack:
    """An attack and when it begins, in seconds after the stream's start."""

    attack: Attack
    after_s: float


def schedule(
    rng: random.Random, seconds: float, attacks: Sequence[Attack] = ATTACKS
) -> list[ScheduledAttack]:
    """Spread attacks over the stream at random: those that need time to show over its first third."""
    first = min(3.0, seconds * 0.3)
    slow_last, last = first + (seconds - first) / 3, max(first, seconds - min(3.0, seconds * 0.2))
    planned = [
        ScheduledAttack(a, rng.uniform(first, slow_last if a.name in SLOW_ATTACKS else last)) for a in attacks
    ]
    return sorted(planned, key=lambda each: each.after_s)


class Traffic:
    """The stream: a thread from `start` to `finished`."""

    def __init__(
        self,
        settings: Settings,
        scene: Scene,
        attacks: Sequence[ScheduledAttack],
        seconds: float,
    ) -> None:
        self._settings, self._scene, self.seconds = settings, scene, seconds
        self._waiting = list(attacks)
        self._producer = kafka.producer(
            settings,
            **{"linger.ms": 2, "message.max.bytes": BROKER_LIMIT_BYTES, "delivery.timeout.ms": 120_000},
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._failure: BaseException | None = None
        self._published = 0
        self.planned = len(attacks)
        self.delivered: Counter[PayloadKind] = Counter()
        """Records that the broker acknowledged, by kind of topic."""
        self.failures: list[str] = []
        """Errors of records that were not delivered."""
        self.launched: dict[str, LaunchedAttack] = {}
        self.last_telemetry_s: dict[str, float] = {}
        """When each device's last telemetry was acknowledged (monotonic seconds)."""
        self.started_s = 0.0

    def start(self) -> None:
        """Begin to stream."""
        self.started_s = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End early; what was not acknowledged yet is given up."""
        self._stop.set()
        if self._thread.is_alive():
            self._producer.purge()
            self._thread.join(STOP_DEADLINE_S)

    def finished(self) -> bool:
        """True when everything was published and acknowledged; raises what broke the stream off."""
        if self._failure is not None:
            raise self._failure
        return self.started_s > 0 and not self._thread.is_alive()

    def elapsed_s(self) -> float:
        """Seconds of the stream so far."""
        return min(time.monotonic() - self.started_s, self.seconds) if self.started_s else 0.0

    @property
    def produced(self) -> int:
        """Raw records that the broker acknowledged."""
        return self.delivered.total() - self.delivered[PayloadKind.REGISTRY_ENTRY]

    def _run(self) -> None:
        try:
            end_s = self.started_s + self.seconds
            while self._goes_on(end_s):
                for record in self._scene.fleet.due(time.time_ns() // 1000):
                    self._publish(record)
                    self._published += 1
                    # A fleet too large for this thread falls behind; that must not make it outlast its time.
                    if self._published % LOOK_UP_EVERY == 0 and not self._goes_on(end_s):
                        break
                self._producer.poll(STEP_S)
            left = self._producer.flush(FLUSH_DEADLINE_S)
            if left:
                self.failures.append(f"{left} records were not acknowledged within {FLUSH_DEADLINE_S:.0f} s")
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self._failure = error

    def _goes_on(self, end_s: float) -> bool:
        self._producer.poll(0)
        self._launch_due()
        return not self._stop.is_set() and time.monotonic() < end_s

    def _launch_due(self) -> None:
        while self._waiting and self._waiting[0].after_s <= time.monotonic() - self.started_s:
            attack = self._waiting.pop(0).attack
            launched = attack.launch(self._scene, time.time_ns() // 1000)
            self.launched[attack.name] = LaunchedAttack(
                attack, launched.device_id, time.monotonic(), touched=launched.device_ids
            )
            for record in launched.records:
                self._publish(record)

    def _publish(self, record: Outgoing) -> None:
        topic, place = self._place(record)
        while True:
            try:
                self._producer.produce(
                    topic,
                    record.value,
                    record.key,
                    partition=place,
                    on_delivery=partial(self._on_delivery, record),
                )
            except BufferError:
                self._producer.poll(0.1)
                continue
            return

    def _place(self, record: Outgoing) -> tuple[str, int]:
        if record.kind is PayloadKind.REGISTRY_ENTRY:
            return REGISTRY, 0
        if record.partition is not None:
            return RAW_TOPIC_OF[record.kind], record.partition
        return RAW_TOPIC_OF[record.kind], partition_of(record.key, self._settings.partitions)

    def _on_delivery(self, record: Outgoing, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failures.append(f"a record of {record.device_id} ({record.meaning}): {error.str()}")
            return
        now_s = time.monotonic()
        self.delivered[record.kind] += 1
        if record.kind is PayloadKind.TELEMETRY:
            self.last_telemetry_s[record.device_id] = now_s
        if record.meaning != CLEAN and record.meaning in self.launched:
            source = f"{message.topic()}/{message.partition()}/{message.offset()}"
            self.launched[record.meaning].delivered[source] = now_s
