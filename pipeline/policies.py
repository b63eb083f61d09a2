"""The policies at work: workers follow `access.policies`, an authority publishes to it."""

import time

from blake3 import blake3

from pipeline import kafka, metrics
from pipeline.following import TableFollower
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.settings import PipelineError, Settings
from pipeline.topics import POLICIES
from pipeline.trust import authority_identity, load_trust, trust_path
from processors.access.policies import PolicyTable
from schemas.codec import CODEC
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.signing import SigningIdentity
from schemas.trust import TrustRoot


class PolicyWriteError(PipelineError):
    """An entry was published and ignored, or could not be published."""


class PolicyFollower(TableFollower[PolicyTable]):
    """Owns a consumer of the policies' topic and the table that it fills."""

    stale = "the policy view is STALE"

    def __init__(self, settings: Settings, trust: TrustRoot) -> None:
        super().__init__(settings, PolicyTable(trust), POLICIES, "policy", metrics.POLICY_UNREAD)


class PolicyAuthority:
    """Writes policy entries in the name of one authority key."""

    def __init__(self, settings: Settings, identity: SigningIdentity | None = None) -> None:
        self._identity = identity or authority_identity(settings)
        self._audience = settings.log_name
        self._follower = PolicyFollower(settings, load_trust(trust_path(settings)))
        self._producer = kafka.producer(settings)
        self._follower.catch_up()

    @property
    def table(self) -> PolicyTable:
        """The policies as of the last write or the beginning."""
        return self._follower.table

    def publish(self, name: str, policies: str, schema: str) -> int:
        """Put a document into force; returns its version. Raises PolicyWriteError where it is not taken."""
        return self._write(name, "PUBLISH", policies, schema)

    def withdraw(self, name: str) -> int:
        """End a document; returns the version of the entry that does."""
        return self._write(name, "WITHDRAW", "", "")

    def close(self) -> None:
        """Release the clients."""
        self._producer.flush(CALL_TIMEOUT_S)
        self._follower.close()

    def _write(self, name: str, action: str, policies: str, schema: str) -> int:
        known = self.table.published(name)
        version = known.version + 1 if known else 1
        record = {
            "subject": name,
            "version": version,
            "previous_digest": known.entry_digest if known else b"",
            "action": action,
            "time": time.time_ns() // 1000,
            "policies": policies,
            "schema": schema,
        }
        payload = CODEC.encode(PayloadKind.POLICY_ENTRY.value, record)
        signature = self._identity.sign(PayloadKind.POLICY_ENTRY, self._audience, payload)
        value = SignedEnvelope(payload, (signature,)).encode()
        self._producer.produce(POLICIES, key=name.encode(), value=value, partition=0)
        if self._producer.flush(CALL_TIMEOUT_S):
            raise PolicyWriteError(f"{POLICIES} did not acknowledge within {CALL_TIMEOUT_S:.0f} s")
        ignored_before = self.table.offset
        self._follower.catch_up()
        # Read back: had another authority been faster, ours would be ignored.
        found = self.table.published(name)
        if found is None or found.entry_digest != blake3(payload).digest():
            ignored = [each for each in self.table.ignored if each.source.offset >= ignored_before]
            why = next((each.detail for each in ignored if each.subject == name), "another came first")
            raise PolicyWriteError(f"the entry for {name} was not taken: {why}")
        return version
