"""What is to be sized: a fleet, how often it reports, and how it is to be kept."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from loadtests.errors import PlanError

DAY_S = 86_400.0

_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)/(s|min|h|d)", re.ASCII)
_PER_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": DAY_S}


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is to be borne; `check` refuses what nobody has."""

    devices: int
    rate: float
    """Events of each device a second."""
    event_bytes: float | None = None
    """Of an envelope; None: as measured."""
    access_share: float = 0.01
    checkpoint_interval_s: float = 1.0
    anchor_interval_s: float = 10.0
    retention_days: float = 90.0
    """Of `device.events` and `device.rejected`."""
    replication: int = 3
    cores_per_machine: int = 8
    put_price: float = 0.005
    """US dollars for 1,000 writes into the object store."""
    message_price: float = 0.0008
    """US dollars for a message to the consensus service."""

    def check(self) -> None:
        """Raise PlanError, naming the option, where a figure is out of bounds."""
        bounds: Mapping[str, tuple[float | None, float, float]] = {
            "--devices": (self.devices, 1, 1e9),
            "--rate": (self.rate, 1e-9, 1e6),
            "--event-bytes": (self.event_bytes, 1, 1e6),
            "--access-share": (self.access_share, 0, 1),
            "--checkpoint-interval": (self.checkpoint_interval_s, 0.01, DAY_S),
            "--anchor-interval": (self.anchor_interval_s, 0.1, 30 * DAY_S),
            "--retention-days": (self.retention_days, 0.01, 36_500),
            "--replication": (self.replication, 1, 9),
            "--cores-per-machine": (self.cores_per_machine, 1, 4096),
            "--put-price": (self.put_price, 0, 1e6),
            "--message-price": (self.message_price, 0, 1e6),
        }
        for option, (value, least, most) in bounds.items():
            if value is not None and not least <= value <= most:
                raise PlanError(f"{option} {value:g}: from {least:g} to {most:,.0f}")


def parse_rate(text: str) -> float:
    """Read events of a device as `1/s`, `2/min`, `0.5/s` or `60/h`, in events a second; raises PlanError."""
    found = _RATE.fullmatch(text.strip())
    if not found:
        raise PlanError(f"--rate {text[:40]!a}: a number, a slash and s, min, h or d, such as 1/s or 2/min")
    rate = float(found[1]) / _PER_S[found[2]]
    if not rate:
        raise PlanError(f"--rate {text[:40]!a}: more than 0")
    return rate
