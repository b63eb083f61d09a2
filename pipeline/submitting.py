"""Puts entries that several authorities have signed into force, whatever table they are for."""

from pipeline.authority import Authority
from pipeline.controls import ControlAuthority
from pipeline.policies import PolicyAuthority
from pipeline.settings import Settings
from schemas.envelope import PayloadKind

_WRITERS: dict[PayloadKind, type[Authority] | type[PolicyAuthority] | type[ControlAuthority]] = {
    PayloadKind.REGISTRY_ENTRY: Authority,
    PayloadKind.POLICY_ENTRY: PolicyAuthority,
    PayloadKind.ALERT_CONTROL: ControlAuthority,
}


def submit(settings: Settings, kind: PayloadKind, value: bytes) -> None:
    """Publish it. Raises FormatError for one that would be ignored for its form or signatures, and
    EntryWriteError.
    """
    writer = _WRITERS[kind](settings)
    try:
        writer.submit(value)
    finally:
        writer.close()
