"""Receipts of a ledger and their messages."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from schemas.evidence import ChainPoint
from schemas.note import parse_note
from tests.kit.cases.case import Case, case
from tests.kit.mutations import changed_members, spelled_anew
from tests.kit.smalllog import LEDGER, SHARDS, TRUSTED, SmallLog, receipt_of


def ledgers() -> Iterator[Case]:
    """Receipts."""
    log = SmallLog(SHARDS)
    good = log.evidence()
    note = parse_note(good.epoch_proof.partition(b"\n\n")[2])
    for sequence in (1, 2, 17, 2**62):
        for behind in (0, 3):
            receipt = receipt_of(note, sequence, behind)
            found = replace(good, anchor=receipt)
            yield case(f"message {sequence} with {behind} behind", found, "")
            for point in (receipt.segment_start, *(each.point for each in receipt.segment)):
                if point is not None:
                    for name, believed, step in (
                        ("known", point, ""),
                        ("another known", replace(point, running_hash=bytes(48)), "ledger receipt"),
                        ("elsewhere", ChainPoint(point.sequence + 9, bytes(48)), ""),
                    ):
                        trust = replace(TRUSTED, ledger=replace(LEDGER, checkpoints=(believed,)))
                        title = f"{sequence}+{behind}: point {point.sequence} {name}"
                        yield case(title, found, step, trust)
    for name, stated, unstated in (
        ("kind", replace(LEDGER, kind="hedera:mainnet"), replace(LEDGER, kind="")),
        ("topic", replace(LEDGER, topic="0.0.1"), replace(LEDGER, topic="")),
        ("payer", replace(LEDGER, payer="0.0.3"), replace(LEDGER, payer="")),
    ):
        yield case(f"another {name}", good, "ledger receipt", replace(TRUSTED, ledger=stated))
        yield case(f"{name} not stated", good, "", replace(TRUSTED, ledger=unstated))
    anywhere = replace(TRUSTED, ledger=replace(LEDGER, kind=""))
    assert good.anchor is not None
    for kind in ("fabric:x", "hedera", "hedera:"):
        found = replace(good, anchor=replace(good.anchor, ledger=kind))
        yield case(f"ledger {kind}", found, "" if kind == "hedera:" else "ledger receipt", anywhere)
    for version in (0, 2, 4):
        found = replace(good, anchor=replace(good.anchor, running_hash_version=version))
        yield case(f"running hash version {version}", found, "ledger receipt")
    payers = ("0.0", "0.0.2.0", "00.0.2", "0.0.-2", "0.0.9223372036854775808", "0.0.2 ", "０.0.2", "0.0.2\n")
    anybody = replace(TRUSTED, ledger=replace(LEDGER, payer=""))
    for payer in payers:
        segment = (replace(good.anchor.segment[0], payer=payer),)
        found = replace(good, anchor=replace(good.anchor, payer=payer, segment=segment))
        yield case(f"payer {payer!r}", found, "ledger receipt", anybody)
    message = json.loads(good.anchor.message)
    for name, data in _anchor_messages(message):
        found = replace(good, anchor=receipt_of(note, message=data))
        yield case(f"message: {name}", found, None)


def _anchor_messages(message: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """HCS-27 messages, good and bad."""
    rng = random.Random("anchor")
    data = json.dumps(message).encode()
    yield "as it was", data
    yield from changed_members(message, rng)
    yield from spelled_anew(data)
    root = message["metadata"]["root"]
    size, digest = root["treeSize"], root["rootHashB64u"]
    for name, head in {
        "the same": root,
        "smaller": {"treeSize": "0", "rootHashB64u": digest},
        "greater": {"treeSize": str(int(size) + 1), "rootHashB64u": digest},
        "leading zero": {"treeSize": "00", "rootHashB64u": digest},
        "2^64": {"treeSize": str(2**64), "rootHashB64u": digest},
        "a number": {"treeSize": 1, "rootHashB64u": digest},
        "padded": {"treeSize": "0", "rootHashB64u": digest + "="},
        "standard alphabet": {"treeSize": "0", "rootHashB64u": "+" + digest[1:]},
        "URL alphabet": {"treeSize": "0", "rootHashB64u": "-_" + digest[2:]},
        "not canonical": {"treeSize": "0", "rootHashB64u": digest[:-1] + chr(ord(digest[-1]) + 1)},
        "short": {"treeSize": "0", "rootHashB64u": digest[:-1]},
        "empty": {"treeSize": "0", "rootHashB64u": ""},
        "null": None,
    }.items():
        changed = {**message, "metadata": {**message["metadata"], "prev": head}}
        yield f"prev: {name}", json.dumps(changed).encode()
    for name, found in {
        "good": {"alg": "EdDSA", "kid": "a", "b64u": "AA"},
        "no key": {"alg": "EdDSA", "b64u": "AA"},
        "empty": {"alg": "EdDSA", "kid": "a", "b64u": ""},
        "null": None,
        "five characters": {"alg": "EdDSA", "kid": "a", "b64u": "AAAAA"},
    }.items():
        changed = {**message, "metadata": {**message["metadata"], "sig": found}}
        yield f"sig: {name}", json.dumps(changed).encode()
    yield "1,024 bytes", data + b" " * (1024 - len(data))
    yield "1,025 bytes", data + b" " * (1025 - len(data))
