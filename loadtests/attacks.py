"""Labelled attacks on a fleet: what is published, and what must be found.

Each attack takes its victim from the fleet, gives the records to publish at once, and may change what the
victim sends from then on. The label travels as `Outgoing.meaning`, beside the record and never in it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from loadtests.fleet import KEY_ID, Monitor, Outgoing
from loadtests.scene import Launched, Scene
from loadtests.vitals import Row
from schemas.codec import CODEC
from schemas.envelope import PayloadKind, SignedEnvelope, decode_envelope
from schemas.mdc import BY_NAME
from schemas.partition import partition_of
from schemas.reasons import Reason
from schemas.signing import SigningIdentity

GUESSES = 12
"""Wrong passwords of the brute-force attack."""
SKIPPED = 3
"""Events withheld by the sequence gap."""
IMPOSSIBLE_HEART_RATE_BPM = 480.0
IMPOSSIBLE_SATURATION_PERCENT = 140.0
BROKER_MAX_BATCH_BYTES = 1_048_588
"""Kafka's default `message.max.bytes`: the size of a whole record batch, overhead included."""

_HEART_RATE = BY_NAME["hr"].code
_PULSE = BY_NAME["pulse"].code
_SATURATION = BY_NAME["spo2"].code


@dataclass(frozen=True, slots=True)
class Expectation:
    """How an attack must show: a rejection with a reason, a finding of a rule, or both."""

    reason: Reason | None = None
    rule: str | None = None
    by_device: bool = False
    """The finding names the device only: no record can show what was never sent."""
    each: bool = False
    """Every record of the attack must show, not one of them."""
    incident: bool = False
    """The findings must be told as one incident too."""

    def __str__(self) -> str:
        parts = [f"rejected: {self.reason.value}"] if self.reason else []
        parts += [f"finding: {self.rule}"] if self.rule else []
        return ", ".join([*parts, *(["one incident"] if self.incident else [])])


@dataclass(frozen=True, slots=True)
class Attack:
    """A labelled attack; `launch(scene, time_us)` prepares it."""

    name: str
    expected: Expectation
    _prepare: Callable[[Scene, int, str], Launched]

    def launch(self, scene: Scene, time_us: int) -> Launched:
        """Prepare the attack at a moment; what it publishes carries the attack's name as meaning."""
        return self._prepare(scene, time_us, self.name)


def _captured(scene: Scene) -> tuple[Monitor, Outgoing]:
    """A victim, and the last record that it sent: what somebody on the wire has in hand."""
    victim = scene.victim()
    if victim.latest is None:
        message = f"{victim.device_id} has sent nothing yet"
        raise ValueError(message)
    return victim, victim.latest


def _one(victim: Monitor, record: Outgoing) -> Launched:
    return Launched(victim.device_id, (record,))


def _forged_signature(scene: Scene, time_us: int, name: str) -> Launched:
    """The next event of a device, signed by somebody who has another key and claims the device's."""
    victim = scene.victim()
    key = SigningIdentity(victim.device_id, KEY_ID, scene.rng.randbytes(32))
    impostor = Monitor(key, scene.fleet.audience, boot=victim.boot)
    impostor.skip(PayloadKind.TELEMETRY, victim.sequence(PayloadKind.TELEMETRY))
    return _one(victim, impostor.telemetry(time_us, victim.peek(), name))


def _altered_payload(scene: Scene, _time_us: int, name: str) -> Launched:
    """A captured event with one value changed, under its true signature."""
    victim, captured = _captured(scene)
    envelope = decode_envelope(captured.value)
    body = CODEC.decode(PayloadKind.TELEMETRY.value, envelope.payload)
    body["values"][0] += 25.0
    altered = SignedEnvelope(CODEC.encode(PayloadKind.TELEMETRY.value, body), envelope.signatures)
    return _one(victim, replace(captured, value=altered.encode(), meaning=name))


def _replay(scene: Scene, _time_us: int, name: str) -> Launched:
    """A captured event, sent again byte for byte."""
    victim, captured = _captured(scene)
    return _one(victim, replace(captured, meaning=name))


def _equivocation(scene: Scene, time_us: int, name: str) -> Launched:
    """Two different events under one number, both truly signed."""
    victim, _ = _captured(scene)
    victim.skip(PayloadKind.TELEMETRY, -1)
    row = victim.peek()
    other = Row(row.codes, (row.values[0] + 10.0, *row.values[1:]))
    return _one(victim, victim.telemetry(time_us, other, name))


def _relabelled(scene: Scene, _time_us: int, name: str) -> Launched:
    """A captured telemetry event, put where access events are read."""
    victim, captured = _captured(scene)
    return _one(victim, replace(captured, kind=PayloadKind.ACCESS, meaning=name))


def _unknown_device(scene: Scene, time_us: int, name: str) -> Launched:
    """A device that nobody enrolled, with a good signature of its own."""
    stranger = scene.fleet.spare(1)
    return _one(stranger, stranger.telemetry(time_us, stranger.peek(), name))


def _revoked_device(scene: Scene, time_us: int, name: str) -> Launched:
    """A true signature by a key that was revoked."""
    return _one(scene.stolen, scene.stolen.telemetry(time_us, scene.stolen.peek(), name))


def _replayed_registration(scene: Scene, _time_us: int, name: str) -> Launched:
    """The registration from before the revocation, published again to bring the key back to life."""
    return _one(scene.stolen, replace(scene.registration, meaning=name))


def _wrong_partition(scene: Scene, _time_us: int, name: str) -> Launched:
    """A captured event where no state of its device is kept: another partition, or under another key."""
    victim, captured = _captured(scene)
    if scene.partitions == 1:
        return _one(victim, replace(captured, key=b"another device", meaning=name))
    elsewhere = (partition_of(captured.key, scene.partitions) + 1) % scene.partitions
    return _one(victim, replace(captured, partition=elsewhere, meaning=name))


def _sequence_gap(scene: Scene, time_us: int, name: str) -> Launched:
    """Events withheld on the way; the next one arrives."""
    victim = scene.victim()
    victim.skip(PayloadKind.TELEMETRY, SKIPPED)
    return _one(victim, victim.telemetry(time_us, victim.peek(), name))


def _silence(scene: Scene, _time_us: int, _name: str) -> Launched:
    """A monitor that is unplugged."""
    victim = scene.victim()
    victim.silenced = True
    return Launched(victim.device_id)


def _out_of_range(scene: Scene, time_us: int, name: str) -> Launched:
    """A heart rate that no heart has, truly signed by a device that was made to lie."""
    victim = scene.victim()
    row = victim.peek()
    values = tuple(
        IMPOSSIBLE_HEART_RATE_BPM if code == _HEART_RATE else value
        for code, value in zip(row.codes, row.values, strict=True)
    )
    return _one(victim, victim.telemetry(time_us, Row(row.codes, values), name))


def _stuck_sensor(scene: Scene, time_us: int, name: str) -> Launched:
    """A monitor whose signals stand still from now on, at values that each look healthy."""
    victim = scene.victim()
    frozen = victim.peek()
    healthy = {_HEART_RATE: 71.3, _PULSE: 70.9}
    values = tuple(healthy.get(code, value) for code, value in zip(frozen.codes, frozen.values, strict=True))
    stuck = Row(frozen.codes, values)
    victim.tamper(name, lambda _row: stuck)
    return _one(victim, victim.reading(time_us))


def _ward_spoof(scene: Scene, time_us: int, name: str) -> Launched:
    """Monitors of one ward report an oxygen saturation above 100 % at the same moment, truly signed."""
    ward = scene.ward()
    return Launched(ward[0].device_id, tuple(_saturated(each, time_us, name) for each in ward))


def _saturated(monitor: Monitor, time_us: int, name: str) -> Outgoing:
    reported = {**_values(monitor.peek()), _SATURATION: IMPOSSIBLE_SATURATION_PERCENT}
    return monitor.telemetry(time_us, Row(tuple(reported), tuple(reported.values())), name)


def _values(row: Row) -> dict[int, float]:
    return dict(zip(row.codes, row.values, strict=True))


def _brute_force(scene: Scene, time_us: int, name: str) -> Launched:
    """Somebody at a bedside tries passwords."""
    victim = scene.victim()
    guesses = tuple(
        victim.access(time_us + guess, subject="administrator", outcome="FAILED", meaning=name)
        for guess in range(GUESSES)
    )
    return Launched(victim.device_id, guesses)


def _malformed_bytes(scene: Scene, _time_us: int, name: str) -> Launched:
    """Noise under a device's name."""
    victim = scene.victim()
    noise = scene.rng.randbytes(300)
    return _one(
        victim, Outgoing(PayloadKind.TELEMETRY, victim.device_id.encode(), noise, victim.device_id, name)
    )


def largest_value_bytes(key: bytes) -> int:
    """The longest value that a broker with default limits takes under `key`.

    A record batch (Kafka protocol, "Record Batch", magic 2) costs 61 bytes; the record in it its length
    (3), attributes, time stamp and offset deltas (1 each), key length (1 below 64 bytes, else 2), value
    length (3) and header count (1).
    """
    return BROKER_MAX_BATCH_BYTES - 61 - 10 - (1 if len(key) < 64 else 2) - len(key)


def _oversized(scene: Scene, _time_us: int, name: str) -> Launched:
    """The largest record that the broker takes."""
    victim = scene.victim()
    key = victim.device_id.encode()
    value = CODEC.header("signed_envelope") + scene.rng.randbytes(largest_value_bytes(key) - 10)
    return _one(victim, Outgoing(PayloadKind.TELEMETRY, key, value, victim.device_id, name))


def _rejected(reason: Reason) -> Expectation:
    return Expectation(reason=reason)


ATTACKS: tuple[Attack, ...] = (
    Attack("forged signature", _rejected(Reason.BAD_SIGNATURE), _forged_signature),
    Attack("altered payload", _rejected(Reason.BAD_SIGNATURE), _altered_payload),
    Attack("replay", _rejected(Reason.REPLAY), _replay),
    Attack("equivocation", Expectation(Reason.EQUIVOCATION, "equivocation"), _equivocation),
    Attack("event of another kind re-labelled", _rejected(Reason.WRONG_KIND), _relabelled),
    Attack("unknown device", _rejected(Reason.UNKNOWN_DEVICE), _unknown_device),
    Attack("revoked device", _rejected(Reason.REVOKED_KEY), _revoked_device),
    Attack(
        "replayed registration after a revocation",
        Expectation(rule="registry_rejected"),
        _replayed_registration,
    ),
    Attack("wrong partition", _rejected(Reason.WRONG_PARTITION), _wrong_partition),
    Attack("sequence gap", Expectation(rule="sequence_gap"), _sequence_gap),
    Attack("silence", Expectation(rule="silence", by_device=True), _silence),
    Attack("out-of-range spoof", Expectation(rule="bounds"), _out_of_range),
    Attack("stuck sensor", Expectation(rule="stuck"), _stuck_sensor),
    Attack("spoof of a whole ward", Expectation(rule="bounds", each=True, incident=True), _ward_spoof),
    Attack("brute-force access", Expectation(rule="repeated_failed_access"), _brute_force),
    Attack("malformed bytes", _rejected(Reason.MALFORMED), _malformed_bytes),
    Attack("oversized record", _rejected(Reason.OVERSIZED), _oversized),
)
"""Every attack of the demo, once."""

SILENCE = "silence"
"""Name of the attack whose latency counts from a deadline that passes."""
SLOW_ATTACKS = frozenset({SILENCE, "stuck sensor"})
"""Attacks that take time to show, so they are begun first."""
