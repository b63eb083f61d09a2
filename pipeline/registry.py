"""Follows `identity.registry`."""

from pipeline import metrics
from pipeline.following import TableFollower
from pipeline.settings import Settings
from pipeline.topics import REGISTRY
from processors.registry import Registry
from schemas.trust import TrustRoot


class RegistryFollower(TableFollower[Registry]):
    """Owns a consumer of the registry topic and the table that it fills."""

    stale = "the registry view is STALE"

    def __init__(self, settings: Settings, trust: TrustRoot, table: Registry | None = None) -> None:
        known = Registry(trust) if table is None else table
        super().__init__(settings, known, REGISTRY, "registry", metrics.REGISTRY_UNREAD)
