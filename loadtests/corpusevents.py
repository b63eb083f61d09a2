"""The events of a corpus, any chunk by itself: what is drawn by chance follows from the plan alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from loadtests.corpus import FORGED, KINDS
from loadtests.corpusplan import WARD_DEVICES, WARD_NURSES, Plan, nurses_of
from loadtests.fleet import KEY_ID, Monitor, device_identity
from loadtests.vitals import Row
from loadtests.vitals import rows as vital_rows
from schemas.codec import CODEC
from schemas.ed25519 import SIGNATURE_BYTES
from schemas.envelope import PayloadKind, Signature, SignedEnvelope, pae, pae_prefix
from schemas.events import MAX_READINGS, encode_event
from schemas.mdc import BY_NAME
from schemas.signing import SigningIdentity
from schemas.varint import write_long

RECORDS_AN_ATTACK, VICTIMS_A_WARD = 2, 2
"""So many forgeries, at least, are about one device before the next one's turn, and so many devices of a ward
are attacked before the next ward: fewer than make an incident."""
PRIVATE_CODE = 0xF000
"""MDC term codes from here on are a vendor's own (IEEE 11073-10101): readings that nobody knows fill up."""
OWN_NOISE = 0.8
"""Standard deviation of what each monitor adds to a signal: two that replay one record are not to be found as
two with one source of noise. It adds the same to the same value, so that a value which stands in the record
stands here: noise on it would be what somebody adds to a frozen one."""
_OWN_VALUES = 4096
MOST_REMEMBERED = 200_000
_SPO2 = BY_NAME["spo2"].code
_CEILINGS = {_SPO2: 100.0}
_NOISE_OF = {_SPO2: 0.15}
"""Of a signal that itself moves by a few tenths."""

Record = tuple[int, int, bytes]
"""Kind with FORGED, device, signed envelope."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Arrays over all records."""

    kinds: npt.NDArray[np.uint8]
    forged: npt.NDArray[np.bool_]
    devices: npt.NDArray[np.int64]
    """For a forgery the device that it claims to be."""
    sequences: npt.NDArray[np.int64]


class _Unsigned(SigningIdentity):
    """An identity that leaves the signature to somebody else: what it seals is the payload alone."""

    __slots__ = ()

    def seal_event(self, kind: PayloadKind, audience: str, record: Mapping[str, Any]) -> bytes:  # noqa: ARG002
        """Encode an event."""
        return encode_event(kind, record)


@lru_cache(maxsize=1)
def draw(plan: Plan) -> Drawn:
    """Draw who sends what when."""
    chance = np.random.default_rng(plan.seed)
    total = plan.records
    kinds = chance.choice(len(KINDS), total, p=plan.shares).astype(np.uint8)
    forged = np.zeros(total, bool)
    forged[chance.permutation(total)[: round(plan.forged_share * total)]] = True
    order = chance.permutation(plan.devices)
    wards = chance.permutation(-(-plan.devices // WARD_DEVICES))
    victims = (wards[:, np.newaxis] * WARD_DEVICES + np.arange(VICTIMS_A_WARD)).ravel()
    victims = victims[victims < plan.devices]
    attacks = max(1, min(len(victims), int(forged.sum()) // RECORDS_AN_ATTACK))
    devices = order[(np.cumsum(~forged) - 1) % plan.devices]
    devices = np.where(forged, victims[np.arange(total) * attacks // total], devices).astype(np.int64)
    return Drawn(kinds, forged, devices, _sequences(devices * len(KINDS) + kinds.astype(np.int64), forged))


def _sequences(counters: npt.NDArray[np.int64], forged: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number each counter's own records from 1; a forgery claims the number that is next."""
    by_counter = np.argsort(counters, kind="stable")
    own = (~forged)[by_counter].astype(np.int64)
    so_far = np.cumsum(own)
    first = np.concatenate(([True], np.diff(counters[by_counter]) != 0))
    before = np.maximum.accumulate(np.where(first, so_far - own, 0))
    sequences = np.empty(len(counters), np.int64)
    sequences[by_counter] = so_far - before + (1 - own)
    return sequences


def identity_of(plan: Plan, number: int) -> SigningIdentity:
    """Return the identity of a device; nurses come behind the devices, and behind them the forger."""
    made = device_identity(plan.seed, number)
    return _Unsigned(made.did, KEY_ID, made.seed)


def chunk_of(plan: Plan, start: int, count: int) -> list[Record]:
    """Make and sign the records from `start` on."""
    return _maker(plan).chunk(start, count)


def envelope_bytes(plan: Plan, readings: int) -> int:
    """How long an event with so many readings is."""
    monitor = Monitor(identity_of(plan, 0), plan.log_name)
    none = [0.0] * max(MAX_READINGS, _OWN_VALUES)
    row = _own(vital_rows()[0], none, none, 0, readings)
    return len(_Envelopes().write(monitor.telemetry(plan.first_us, row).value, bytes(SIGNATURE_BYTES)))


@lru_cache(maxsize=1)
def _maker(plan: Plan) -> "_Maker":
    return _Maker(plan)


class _Maker:
    """Makes the chunks of one plan, and remembers what costs much: identities and keys."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._drawn = plan, draw(plan)
        self._prefixes = [pae_prefix(kind, plan.log_name) for kind in KINDS]
        self._envelopes = _Envelopes()
        self._identities: dict[int, SigningIdentity] = {}
        self._keys: dict[int, bytes] = {}
        self._own = np.random.default_rng(plan.seed).standard_normal(_OWN_VALUES).tolist()
        self._forger = plan.devices + nurses_of(plan.devices)

    def chunk(self, start: int, count: int) -> list[Record]:
        """Make and sign the records from `start` on."""
        plan, drawn, part = self._plan, self._drawn, slice(start, start + count)
        noise = np.random.default_rng([plan.seed, start]).standard_normal((count, max(10, plan.readings)))
        columns = (drawn.kinds[part], drawn.devices[part], drawn.sequences[part], drawn.forged[part])
        rows = zip(*(each.tolist() for each in (*columns, noise[: len(columns[0])])), strict=True)
        made: list[Record] = []
        for number, (kind, device, sequence, forged, own) in enumerate(rows, start):
            time_us = plan.first_us + round(number / plan.event_rate * 1e6)
            payload = self._payload(device, KINDS[kind], sequence, time_us, own)
            message = pae(self._prefixes[kind], payload)
            # Libsodium's, with the key at hand: twice as fast as those that work it out each time.
            key = self._key(self._forger if forged else device)
            signature = crypto_sign(message, key)[:SIGNATURE_BYTES]
            envelope = self._envelopes.write(payload, signature)
            made.append((kind | (FORGED if forged else 0), device, envelope))
        return made

    def _payload(
        self, device: int, kind: PayloadKind, sequence: int, time_us: int, noise: Sequence[float]
    ) -> bytes:
        plan = self._plan
        place = device * len(vital_rows()) // plan.devices
        if kind is PayloadKind.TELEMETRY:
            place += sequence - 1
        monitor = Monitor(self._identity(device), plan.log_name, place=place)
        monitor.skip(kind, sequence - 1)
        if kind is PayloadKind.ACCESS:
            nurse = device // WARD_DEVICES * WARD_NURSES + sequence % WARD_NURSES
            subject = self._identity(plan.devices + nurse).did
            return monitor.access(time_us, subject=subject, outcome="GRANTED").value
        if kind is PayloadKind.LIFECYCLE:
            return monitor.lifecycle(time_us, "BOOT" if sequence == 1 else "CALIBRATION").value
        lap = place // len(vital_rows())
        row = _own(monitor.peek(), self._own, noise, hash((device, lap)), plan.readings)
        return monitor.telemetry(time_us, row).value

    def _identity(self, number: int) -> SigningIdentity:
        found = self._identities.get(number)
        if found is None:
            _forget_some(self._identities)
            found = self._identities[number] = identity_of(self._plan, number)
        return found

    def _key(self, number: int) -> bytes:
        found = self._keys.get(number)
        if found is None:
            _forget_some(self._keys)
            found = self._keys[number] = bytes(crypto_sign_seed_keypair(self._identity(number).seed)[1])
        return found


def _forget_some(known: dict[int, Any]) -> None:
    if len(known) >= MOST_REMEMBERED:
        known.clear()


def _own(row: Row, own: Sequence[float], noise: Sequence[float], whose: int, readings: int) -> Row:
    """Give a row what its monitor adds to it, by value, and further readings up to the least number."""
    values = [
        # A zero is a sensor that is off, and stays one.
        max(
            0.1,
            min(
                _CEILINGS.get(code, 1e9),
                round(
                    value + _NOISE_OF.get(code, OWN_NOISE) * own[hash((whose, code, value)) % _OWN_VALUES], 1
                ),
            ),
        )
        if value
        else value
        for code, value in zip(row.codes, row.values, strict=True)
    ]
    more = range(len(row.codes), readings)
    codes = (*row.codes, *(PRIVATE_CODE + each for each in more))
    return Row(codes, (*values, *(round(50 + noise[each], 1) for each in more)))


class _Envelopes:
    """Writes envelopes with one signature: what is the same in all is taken from one that the codec wrote."""

    def __init__(self) -> None:
        empty = bytes(SIGNATURE_BYTES)
        sample = SignedEnvelope(b"", (Signature(KEY_ID, empty),)).encode()
        self._head = CODEC.header("signed_envelope")
        rest = sample[len(self._head) + 1 :]  # behind the length of no payload
        at = rest.index(empty)
        self._middle, self._end = rest[:at], rest[at + SIGNATURE_BYTES :]

    def write(self, payload: bytes, signature: bytes) -> bytes:
        """Write the envelope of a payload."""
        return b"".join((self._head, write_long(len(payload)), payload, self._middle, signature, self._end))
