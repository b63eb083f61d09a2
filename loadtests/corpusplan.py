"""What a corpus is to hold, and how its wards are staffed."""

from dataclasses import dataclass

from loadtests.corpus import KINDS, MAX_RECORDS, MAX_SUBJECTS
from loadtests.errors import PlanError
from schemas.events import MAX_READINGS

WARD_DEVICES, WARD_NURSES = 8, 2
READINGS = 8
DEFAULT_SHARES = (0.98, 0.01, 0.01)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a corpus is to hold."""

    log_name: str
    devices: int
    records: int
    seed: int
    first_us: int
    """Time of the first event by the devices' clocks."""
    event_rate: float = 20_000.0
    """Events a second by the devices' clocks, all together."""
    forged_share: float = 0.0
    shares: tuple[float, ...] = DEFAULT_SHARES
    """Of telemetry, access and lifecycle."""
    readings: int = READINGS
    """Least readings in a telemetry event."""
    record_size: int | None = None
    """Envelope bytes of a telemetry event to come near to."""

    @property
    def span_us(self) -> int:
        """How long the devices take to send it, by their clocks."""
        return round(self.records / self.event_rate * 1e6)

    def check(self) -> None:
        """Raise PlanError where it cannot be made."""
        for name, value, most in (
            ("devices", self.devices, MAX_SUBJECTS // 2),
            ("records", self.records, MAX_RECORDS),
        ):
            if not 1 <= value <= most:
                raise PlanError(f"{value:,} {name}: from 1 to {most:,}")
        if not self.event_rate > 0:
            raise PlanError(f"an event rate of {self.event_rate:g}: more than 0")
        if not 0 <= self.forged_share < 1:
            raise PlanError(f"a share of bad signatures of {self.forged_share:g}: from 0 to below 1")
        if not 1 <= self.readings <= MAX_READINGS:
            raise PlanError(f"{self.readings} readings: from 1 to {MAX_READINGS}")
        if len(self.shares) != len(KINDS) or min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise PlanError("the shares of telemetry, access and lifecycle must be parts of 1")


def nurses_of(devices: int) -> int:
    """Count the nurses of so many devices' wards."""
    return -(-devices // WARD_DEVICES) * WARD_NURSES


def device_ward(device: int) -> str:
    """Name the ward of a device, counted from 0."""
    return f"ward-{device // WARD_DEVICES + 1:04d}"


def nurse_ward(nurse: int) -> str:
    """Name the ward of a nurse, counted from 0."""
    return f"ward-{nurse // WARD_NURSES + 1:04d}"
