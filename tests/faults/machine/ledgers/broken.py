"""Anchor stages that are wrong on purpose; `tests.faults.test_ledger_faults` shows that each is found."""

import time
from collections.abc import Callable
from typing import Any


def _confirmed_on_acceptance() -> None:
    """What a node took is said to be anchored."""
    from pipeline.anchorrecords import Outgoing
    from pipeline.anchorstore import AnchorStore
    from schemas.codec import CODEC

    real = AnchorStore.submitted

    def submitted(self: AnchorStore, record: Outgoing) -> None:
        position = self.position()
        said = CODEC.decode("anchor", record.value) | {
            "status": "CONFIRMED",
            "sequence": position.sequence + 1 if position else 1,
            "consensus_timestamp_ns": time.time_ns(),
            "running_hash": bytes(48),
            "mirror": "http://mirror.example",
        }
        self.announce([Outgoing(record.tree_size, CODEC.encode("anchor", said))], record.tree_size)
        real(self, record)

    AnchorStore.submitted = submitted  # type: ignore[method-assign]


def _new_bytes_each_try() -> None:
    """A submission that got no answer is signed anew instead of sent again."""
    from anchors.hedera.client import HederaLedger

    real = HederaLedger.submit

    def submit(self: HederaLedger, prepared: Any) -> Any:
        return real(self, self.prepare(prepared.message, time.time_ns()))

    HederaLedger.submit = submit  # type: ignore[method-assign]


def _mirror_is_believed() -> None:
    """Running hashes are not recomputed."""
    from anchors.hedera import client

    vars(client)["verified"] = lambda _topic, _after, messages: iter(messages)


LEDGER_BROKEN: dict[str, Callable[[], None]] = {
    "confirmed_on_acceptance": _confirmed_on_acceptance,
    "new_bytes_each_try": _new_bytes_each_try,
    "mirror_is_believed": _mirror_is_believed,
}
