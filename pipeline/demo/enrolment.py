"""Who takes part: monitors, a stolen one, two pumps, nurses of the wards, persons of the access scene.

Everybody is in the registry and the shipped policies are in force before the first event is sent.
"""

import random
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from loadtests.fleet import KEY_ID, NURSES, WARDS, Fleet, Monitor, Outgoing, device_identity, ward_of
from loadtests.scene import Scene
from pipeline.authority import Authority, NewKey
from pipeline.identity import create_identity
from pipeline.policies import SHIPPED, PolicyAuthority, shipped
from pipeline.settings import Settings
from schemas.envelope import PayloadKind
from schemas.signing import SigningIdentity

START_DELAY_S = 0.5
AROUND_THE_CLOCK = "00:00-00:00"
"""A shift that is on whenever the demo runs."""
HERE, ELSEWHERE = WARDS[:2]
_PERSONS: Mapping[str, Mapping[str, str]] = {
    "Nora": {"kind": "clinician", "roles": "nurse", "wards": HERE},
    "Carla": {"kind": "clinician", "roles": "charge_nurse", "wards": HERE},
    "Paul": {"kind": "clinician", "roles": "pharmacist", "wards": ",".join(WARDS)},
    "Farid": {"kind": "clinician", "roles": "physician", "wards": ELSEWHERE},
    "Tom": {"kind": "technician", "wards": HERE},
}
MONITOR = {
    "kind": "bedside monitor",
    "manufacturer": "Example Medical",
    "model": "VM-4",
    "firmware": "4.2.1",
}
PUMP = {"kind": "infusion-pump", "manufacturer": "Example Medical", "model": "IP-2", "firmware": "2.0.3"}

Registration = tuple[str, NewKey, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays the access scene: persons by name, a pump of their ward and one of another."""

    persons: Mapping[str, SigningIdentity]
    pump: Monitor
    far_pump: Monitor

    @property
    def pumps(self) -> tuple[Monitor, Monitor]:
        """Both, the near one first."""
        return self.pump, self.far_pump


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What may begin now, and how many are registered."""

    scene: Scene
    cast: Cast
    person_count: int


def enroll(settings: Settings, devices: int, rate_hz: float, seed: int, rng: random.Random) -> Enrolled:
    """Register everybody, revoke the stolen device, publish the policies; raises EntryWriteError."""
    boot = int(time.time())
    # The boot in the seed: a second run in one data folder has devices of its own.
    seed = (seed << 32) + boot
    monitors, stolen = [device_identity(seed, n) for n in range(devices)], device_identity(seed, devices)
    nurses = [create_identity(KEY_ID) for _ in NURSES]
    persons = {name: create_identity(KEY_ID) for name in _PERSONS}
    # The fleet's first two spares are the stolen device and one that nobody enrolled.
    pumps = [
        Monitor(device_identity(seed, devices + 2 + n), settings.log_name, boot=boot, ward=ward)
        for n, ward in enumerate((HERE, ELSEWHERE))
    ]
    with closing(Authority(settings)) as authority:
        authority.enroll_many(
            [
                *(_device(identity, MONITOR, ward_of(n)) for n, identity in enumerate(monitors)),
                *(_device(pump.identity, PUMP, pump.ward) for pump in pumps),
                *(_person(nurse, _nurse(n)) for n, nurse in enumerate(nurses)),
                *(_person(persons[name], {"name": name, **about}) for name, about in _PERSONS.items()),
            ]
        )
        registration = authority.enroll(*_device(stolen, MONITOR, ward_of(devices)))
        authority.revoke(stolen.did, KEY_ID, time.time_ns() // 1000)
    with closing(PolicyAuthority(settings)) as policies:
        policies.publish(SHIPPED, shipped(".cedar"), shipped(".cedarschema"))
    fleet = Fleet(
        devices,
        audience=settings.log_name,
        seed=seed,
        start_us=int((time.time() + START_DELAY_S) * 1e6),
        rate_hz=rate_hz,
        boot=boot,
        nurses=[nurse.did for nurse in nurses],
    )
    scene = Scene(
        fleet,
        rng,
        settings.partitions,
        fleet.spare(0, boot=boot),
        Outgoing(PayloadKind.REGISTRY_ENTRY, stolen.did.encode(), registration, stolen.did),
    )
    return Enrolled(scene, Cast(persons, *pumps), len(nurses) + len(persons))


def _device(identity: SigningIdentity, about: Mapping[str, str], ward: str) -> Registration:
    return identity.did, NewKey(KEY_ID, identity.public_key), {**about, "ward": ward}


def _person(identity: SigningIdentity, about: Mapping[str, str]) -> Registration:
    key = NewKey(KEY_ID, identity.public_key, "APPROVAL")
    return identity.did, key, {**about, "shift": AROUND_THE_CLOCK}


def _nurse(number: int) -> Mapping[str, str]:
    return {"name": f"nurse {number + 1}", "kind": "clinician", "roles": "nurse", "wards": ward_of(number)}
