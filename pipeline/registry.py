"""Follows `identity.registry`."""

from confluent_kafka.admin import AdminClient

from pipeline import metrics
from pipeline.following import TableFollower
from pipeline.settings import Settings
from pipeline.topics import REGISTRY
from processors.registry import Registry
from schemas.trust import TrustRoot


class RegistryFollower(TableFollower[Registry]):
    """Owns a consumer of the registry topic and the table that it fills."""

    stale = "the registry view is STALE"

    def __init__(
        self,
        settings: Settings,
        trust: TrustRoot,
        admin: AdminClient | None = None,
        table: Registry | None = None,
    ) -> None:
        super().__init__(
            settings,
            Registry(trust) if table is None else table,
            REGISTRY,
            "registry",
            metrics.REGISTRY_UNREAD,
            admin_client=admin,
        )
