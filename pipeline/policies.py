"""The policies at work: workers follow `access.policies`, an authority publishes to it."""

from importlib import resources

from pipeline import metrics
from pipeline.entries import EntryWriter
from pipeline.following import TableFollower
from pipeline.settings import Settings
from pipeline.topics import POLICIES
from pipeline.trust import load_trust, trust_path
from processors.access.policies import PolicyTable
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.signing import SigningIdentity
from schemas.trust import TrustRoot

SHIPPED = "hospital"
"""Name of the document that the project ships."""


def shipped(suffix: str) -> str:
    """Read a file of the shipped document: `.cedar`, `.cedarschema`, `.cases.toml`."""
    return resources.files("processors.access").joinpath(SHIPPED + suffix).read_text(encoding="utf-8")


class PolicyFollower(TableFollower[PolicyTable]):
    """Owns a consumer of the policies' topic and the table that it fills."""

    stale = "the policy view is STALE"

    def __init__(self, settings: Settings, trust: TrustRoot) -> None:
        super().__init__(settings, PolicyTable(trust), POLICIES, "policy", metrics.POLICY_UNREAD)


class PolicyAuthority:
    """Writes policy entries in the name of one authority key; raises EntryWriteError."""

    def __init__(self, settings: Settings, identity: SigningIdentity | None = None) -> None:
        follower = PolicyFollower(settings, load_trust(trust_path(settings)))
        self._writer = EntryWriter(settings, follower, PayloadKind.POLICY_ENTRY, identity)
        self.submit, self.close = self._writer.submit, self._writer.close

    @property
    def table(self) -> PolicyTable:
        """The policies as of the last write or the beginning."""
        return self._writer.table

    def sign(self, name: str, policies: str | None, schema: str = "") -> SignedEnvelope:
        """Sign a document, or with None the end of one, for others to sign too; returns the envelope."""
        action = "WITHDRAW" if policies is None else "PUBLISH"
        return self._writer.sign(name, action, {"policies": policies or "", "schema": schema})

    def publish(self, name: str, policies: str, schema: str) -> int:
        """Put a document into force; returns its version."""
        return self._write(name, "PUBLISH", policies, schema)

    def withdraw(self, name: str) -> int:
        """End a document; returns the version of the entry that does."""
        return self._write(name, "WITHDRAW", "", "")

    def _write(self, name: str, action: str, policies: str, schema: str) -> int:
        self._writer.write([(name, action, {"policies": policies, "schema": schema})])
        return self.table.last_entry(name)[0]
