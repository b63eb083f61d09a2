"""Every byte of an evidence file counts: changed, the file fails, or what changed is nothing that was signed.

Free are white space between members and the two words of a receipt that no running hash covers, the
transaction's id and the mirror's name; the verdict calls them what they are.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.verify import verify
from processors.verification.verdict import Verdict
from schemas.evidence import Evidence, EvidenceError, parse_evidence
from schemas.trust import TrustRoot
from tests.kit.parties import LOG as LOG_NAME
from tests.kit.parties import RegistryTopic, approval_of, envelope_of, identity_of, new_key, payload_of
from tests.kit.smalllog import (
    TRUSTED,
    WITNESSES,
    SmallLog,
    leaf_of,
    policy_of,
    receipt_of,
    record,
    resealed,
    witness,
)

# All three witnesses must have signed: of two of three, one signature more is one that nobody needs.
TRUST = replace(TRUSTED, witness_policy=policy_of(threshold="all"))
UNSIGNED = ("transaction_id", "mirror")


def chain() -> RegistryTopic:
    """A device that rotated, an approver, strangers between them, and a revocation behind the event."""
    topic = RegistryTopic(TRUST)
    topic.enroll("stranger")
    topic.enroll("device")
    topic.enroll("nurse", "APPROVAL")
    topic.write(identity_of("nurse").did, "REVOKE", revoked="k1", compromised_since=2**60)
    return topic


@cache
def full_file() -> bytes:
    """Evidence with everything in it: an approval, a chain of three entries, cosignatures and a segment."""
    log = SmallLog([("device.events", 0, 3), ("device.rejected", 0, 2)], chain=chain())
    device = identity_of("device")
    payload = payload_of(device.did)
    event = replace(
        record("device.events", 0, 2), value=envelope_of(payload, device, approval_of("nurse", payload))
    )
    log.records["device.events", 0][1] = event
    log.shards["device.events", 0].entries[1] = leaf_of(event)
    evidence = resealed(log).evidence(index=1, cosigned=[witness(name) for name in WITNESSES])
    return replace(evidence, anchor=receipt_of(log.epoch.signed(), behind=1)).to_json().encode()


@cache
def redacted_file() -> bytes:
    return parse_evidence(full_file()).redacted().to_json().encode()


def judged(data: bytes, trust: TrustRoot = TRUST) -> tuple[Evidence, Verdict] | None:
    """Evidence and verdict; None where the parser refused, with its one error."""
    try:
        evidence = parse_evidence(data)
    except EvidenceError:
        return None
    return evidence, verify(evidence, trust)


def says_the_same(evidence: Evidence, original: Evidence) -> bool:
    """Tell whether all but the receipt's unsigned words is as it was."""
    if evidence.anchor is None or original.anchor is None:
        return evidence == original
    words = {name: getattr(original.anchor, name) for name in UNSIGNED}
    return replace(evidence, anchor=replace(evidence.anchor, **words)) == original


def holds_unchanged(data: bytes, original: Evidence, trust: TrustRoot = TRUST) -> bool:
    """Tell whether changed bytes hold; if they do, nothing that was signed may have changed."""
    found = judged(data, trust)
    if found is None or not found[1].holds:
        return False
    evidence, verdict = found
    assert says_the_same(evidence, original), data
    assert evidence.anchor is None or "unsigned" in verdict.steps[-1].by
    return True


def white_space(data: bytes) -> set[int]:
    """Where a file has white space that is JSON's, not a text's."""
    found, inside = set(), False
    for at, byte in enumerate(data):
        if byte == ord('"'):
            inside = not inside  # the files hold no escaped quotation mark
        elif not inside and byte in b" \n":
            found.add(at)
    return found


def free_words(data: bytes) -> set[int]:
    """Where the receipt says what nothing covers."""
    found: set[int] = set()
    for name in UNSIGNED:
        start = data.index(b'"%s": "' % name.encode()) + len(name) + 5
        found |= set(range(start, data.index(b'"', start)))
    return found


def test_the_files_hold() -> None:
    for data in (full_file(), redacted_file()):
        found = judged(data)
        assert found is not None
        assert found[1].holds, found[1].broken
        assert found[1].existed_before_s is not None
    assert len(parse_evidence(full_file()).registry) == 3


@pytest.mark.timeout(300)
def test_every_bit_of_a_redacted_evidence_file_counts() -> None:
    """Each of eight bits of each byte of a file without a value."""
    data = redacted_file()
    original = parse_evidence(data)
    held, tried = set(), 0
    for at in range(len(data)):
        for bit in range(8):
            tried += 1
            if holds_unchanged(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :], original):
                held.add(at)
    assert tried == 8 * len(data) > 20_000
    assert held == free_words(data)  # the list of free places is no longer than it must be


@pytest.mark.timeout(300)
def test_every_byte_of_a_whole_evidence_file_counts() -> None:
    """One bit of each byte, another from byte to byte."""
    data = full_file()
    original = parse_evidence(data)
    held, tried = set(), 0
    for at in range(len(data)):
        tried += 1
        if holds_unchanged(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :], original):
            held.add(at)
    assert tried == len(data) > 8_000
    assert held <= free_words(data)


@pytest.mark.parametrize("other", [b"\t", b"\r", b" ", b"\n"])
def test_white_space_between_members_says_nothing(other: bytes) -> None:
    data = redacted_file()
    original = parse_evidence(data)
    for at in white_space(data):
        assert holds_unchanged(data[:at] + other + data[at + 1 :], original)


# ---- random logs -----------------------------------------------------------------------------------------


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, TrustRoot]:
    """A file for a random record of a random log: sizes, chain, witnesses, receipt, withheld or not."""
    topic = RegistryTopic()
    for number in range(draw(st.integers(0, 4))):
        topic.enroll(f"other {number}")
    device = topic.enroll("device")
    for number in range(draw(st.integers(0, 3))):
        topic.enroll(f"late {number}")
    offset = len(topic.records)
    if draw(st.booleans()):
        topic.write(device.did, "ROTATE", key=new_key("k2", "device 2"))
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    log = SmallLog([("device.events", number, size) for number, size in enumerate(sizes)], chain=topic)
    partition = draw(st.integers(0, len(sizes) - 1))
    index = draw(st.integers(0, sizes[partition] - 1))
    event = log.records["device.events", partition][index]
    event = replace(event, headers=(("registry.offset", b"%d" % offset), *event.headers[1:]))
    log.records["device.events", partition][index] = event
    log.shards["device.events", partition].entries[index] = leaf_of(event)
    names = WITNESSES[: draw(st.integers(0, 3))]
    resealed(log)
    evidence = log.evidence(
        "device.events", partition, index, anchored=False, cosigned=[witness(name) for name in names]
    )
    if draw(st.booleans()):
        sequence, behind = draw(st.integers(1, 99)), draw(st.integers(0, 3))
        evidence = replace(evidence, anchor=receipt_of(log.epoch.signed(), sequence, behind))
    if draw(st.booleans()):
        evidence = evidence.redacted()
    trust = replace(TRUSTED, witness_policy=policy_of(names, "all") if names else "")
    return evidence.to_json().encode(), trust


@given(logs(), st.data())
@settings(max_examples=60, deadline=None)
def test_any_byte_of_any_log_s_evidence_counts(made: tuple[bytes, TrustRoot], data: st.DataObject) -> None:
    """Random trees: the file holds, and 20 changed files of each say the same or fail."""
    file, trust = made
    original = parse_evidence(file)
    assert verify(original, trust).holds
    for _ in range(20):
        places = data.draw(st.sets(st.integers(0, len(file) - 1), min_size=1, max_size=3))
        changed = bytearray(file)
        for at in places:
            changed[at] ^= data.draw(st.integers(1, 255))
        holds_unchanged(bytes(changed), original, trust)


@given(st.integers(0, 2**20), st.integers(0, 200), st.binary(max_size=6))
@settings(max_examples=300, deadline=None)
def test_bytes_cut_out_or_put_in(at: int, cut: int, added: bytes) -> None:
    file = full_file()
    at %= len(file)
    holds_unchanged(file[:at] + added + file[at + cut :], parse_evidence(file))


# ---- members of another kind -----------------------------------------------------------------------------


def members(document: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(document, dict):
        for name, value in document.items():
            yield from members(value, (*path, name))
    if isinstance(document, list):
        for number, value in enumerate(document):
            yield from members(value, (*path, number))


PATHS = list(members(json.loads(full_file())))
ODD: list[object] = [
    None,
    True,
    0,
    -1,
    2**63,
    1.5,
    1e400,
    "",
    "AA==",
    "\ud800",
    [],
    {},
    [[]],
    [["a", None]],
    "index 0\n\n",
    f"{LOG_NAME}\n1\nAAAA\n",
]


def with_member(path: tuple[str | int, ...], odd: object) -> bytes:
    document: Any = json.loads(full_file())
    if not path:
        return json.dumps(odd).encode()
    holder = document
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = odd
    return json.dumps(document).encode()


def test_any_member_of_another_kind_is_refused_or_fails_and_never_raises() -> None:
    original = parse_evidence(full_file())
    for path in PATHS:
        for odd in ODD:
            found = judged(with_member(path, odd))
            if found is not None and found[1].holds:
                without = path == ("anchor",) and odd is None
                same = replace(original, anchor=None) if without else original
                assert says_the_same(found[0], same), (path, odd)
                if without:
                    assert any("the file has no receipt" in each for each in found[1].not_proven)


@given(st.binary(max_size=200))
def test_noise_is_no_evidence(noise: bytes) -> None:
    assert judged(noise) is None


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
@settings(deadline=None)
def test_parts_of_noise_fail_at_a_step(leaf: bytes, shard: bytes, epoch: bytes, message: bytes) -> None:
    original = parse_evidence(full_file())
    assert original.anchor is not None
    entry = original.registry[0]
    for changed, step in (
        (replace(original, leaf=leaf), "record"),
        (replace(original, shard_proof=shard), "shard checkpoint"),
        (replace(original, epoch_proof=epoch), "epoch checkpoint"),
        (
            replace(original, registry=(replace(entry, leaf=leaf), *original.registry[1:])),
            "registry chain",
        ),
        (replace(original, anchor=replace(original.anchor, message=message)), "ledger receipt"),
    ):
        broken = verify(changed, TRUST).broken
        assert broken is not None
        assert broken.name == step


def test_base64_has_one_spelling() -> None:
    """A decoder that forgives would let many files say one thing, and a courier sign none of them."""
    file = full_file()
    value = base64.b64encode(parse_evidence(file).record.value or b"")
    assert value in file
    url_safe = value.replace(b"+", b"-").replace(b"/", b"_")
    for other in (url_safe, value.rstrip(b"="), value + b"=", value + b"\\n"):
        if other != value:
            assert judged(file.replace(value, other)) is None
