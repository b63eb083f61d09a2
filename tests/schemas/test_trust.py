"""The trust file: it says whom to believe, or it is refused."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.ed25519 import public_key
from schemas.errors import FormatError
from schemas.evidence import ChainPoint
from schemas.note import Ed25519Signer, SignatureError, format_note
from schemas.trust import (
    MAX_TRUST_BYTES,
    LedgerTrust,
    TrustError,
    TrustRoot,
    open_trusted_checkpoint,
    parse_trust,
)
from tests.kit.smalllog import policy_of, witness

LOG_KEY, FIRST, SECOND, EARLIER, EARLIEST = (public_key(bytes([number]) * 32) for number in range(1, 6))
TRUST = TrustRoot(
    "ward.example",
    LOG_KEY,
    {"authority-1": FIRST, "authority-2": SECOND},
    2,
    LedgerTrust("hedera", "0.0.1001", "0.0.2", (ChainPoint(7, b"h" * 48), ChainPoint(9, b"g" * 48))),
    (EARLIER, EARLIEST),
    policy_of(),
)
SMALL_ORDER = bytes([1]) + bytes(31)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def document(**changes: Any) -> str:
    return json.dumps({**json.loads(TRUST.to_json()), **changes})


def test_trust_file_reads_back() -> None:
    assert parse_trust(TRUST.to_json()) == TRUST
    assert parse_trust(TRUST.to_json().encode()) == TRUST


def test_ledger_may_be_left_open() -> None:
    assert parse_trust(document(ledger={})).ledger == LedgerTrust()


def test_file_for_an_auditor_may_name_no_authority() -> None:
    assert parse_trust(document(authorities={}, authority_threshold=1)).authorities == {}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"log_name": None}, "log_name"),
        ({"log_name": 5}, "log_name"),
        ({"log_name": ""}, "log_name"),
        ({"log_name": "two words"}, "log_name"),
        ({"log_name": "line\nbreak"}, "log_name"),
        ({"log_name": "a+b"}, "log_name"),
        ({"log_name": "\ud800"}, "log_name"),
        ({"log_name": "x" * 256}, "log_name"),
        ({"log_key": None}, "log_key"),
        ({"log_key": ["AA=="]}, "log_key"),
        ({"log_key": "é"}, "log_key"),
        ({"log_key": "\ud800"}, "log_key"),
        ({"log_key": b64(LOG_KEY)[:-1]}, "log_key"),
        ({"log_key": b64(LOG_KEY) + "\n"}, "log_key"),
        ({"log_key": b64(LOG_KEY[:31])}, "log_key"),
        ({"log_key": b64(SMALL_ORDER)}, "log_key"),
        ({"authorities": None}, "authorities"),
        ({"authorities": [b64(FIRST)]}, "authorities"),
        ({"authorities": {"a": None}, "authority_threshold": 1}, "a"),
        ({"authorities": {"a": b64(SMALL_ORDER)}, "authority_threshold": 1}, "authorities.a"),
        ({"authorities": {"\ud800": b64(FIRST)}, "authority_threshold": 1}, "key under a name"),
        ({"authority_threshold": None}, "authority_threshold"),
        ({"authority_threshold": True}, "authority_threshold"),
        ({"authority_threshold": 1.0}, "authority_threshold"),
        ({"authority_threshold": "1"}, "authority_threshold"),
        ({"authority_threshold": 0}, "authority_threshold"),
        ({"authority_threshold": -1}, "authority_threshold"),
        ({"authority_threshold": 3}, "authority_threshold"),
        ({"authority_threshold": 10**300}, "authority_threshold"),
        ({"authorities": {}, "authority_threshold": 2}, "authority_threshold"),
        ({"ledger": None}, "ledger"),
        ({"ledger": {"topic": None}}, "topic"),
        ({"ledger": {"payer": 2}}, "payer"),
        ({"ledger": {"kind": "\udfff"}}, "kind"),
        ({"ledger": {"checkpoints": None}}, "checkpoints"),
        ({"ledger": {"checkpoints": [5]}}, "checkpoints"),
        ({"ledger": {"checkpoints": [{"sequence": 1}]}}, "running_hash"),
        ({"ledger": {"checkpoints": [{"sequence": -1, "running_hash": ""}]}}, "sequence"),
        ({"previous_log_keys": None}, "previous_log_keys"),
        ({"previous_log_keys": {}}, "previous_log_keys"),
        ({"previous_log_keys": [None]}, "previous_log_keys"),
        ({"previous_log_keys": [b64(SMALL_ORDER)]}, "previous_log_keys"),
        ({"previous_log_keys": [b64(LOG_KEY)]}, "a key is listed twice"),
        ({"previous_log_keys": [b64(FIRST)]}, "a key is listed twice"),
        ({"previous_log_keys": [b64(EARLIER)] * 101}, "previous_log_keys"),
        ({"witnesses": None}, "witnesses"),
        ({"witnesses": {"policy": 5}}, "policy"),
        ({"witnesses": {"policy": "quorum"}}, "policy"),
        ({"log_key": b64(witness("hospital").public_key)}, "a key is listed twice"),
    ],
)
def test_member_at_fault_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(TrustError, match=named):
        parse_trust(document(**changes))


def test_file_from_before_rotation_witnesses_and_points_is_read() -> None:
    found = json.loads(TRUST.to_json())
    del found["previous_log_keys"], found["witnesses"], found["ledger"]["checkpoints"]
    trust = parse_trust(json.dumps(found))
    assert (trust.previous_log_keys, trust.witness_policy, trust.ledger.checkpoints) == ((), "", ())
    assert trust.witnesses is None
    assert trust.log_keys == (LOG_KEY,)


def test_policy_of_the_file_is_parsed() -> None:
    policy = parse_trust(TRUST.to_json()).witnesses
    assert policy is not None
    assert policy.describe() == "2 of 3: hospital, regulator, maker"


def test_checkpoint_of_the_present_or_an_earlier_key_is_opened() -> None:
    origin = "ward.example/device.events/0"
    checkpoint = Checkpoint(origin, 5, bytes(32))

    def signed(*seeds: int, name: str = origin) -> bytes:
        signers = [Ed25519Signer.from_seed(name, bytes([number]) * 32) for number in seeds]
        return format_note(sign_checkpoint(checkpoint, signers))

    for seeds in ((1,), (4,), (5,), (1, 4), (6, 5)):
        assert open_trusted_checkpoint(signed(*seeds), origin, TRUST).checkpoint == checkpoint
    for seeds in ((6,), (2,)):  # a stranger's, an authority's
        with pytest.raises(SignatureError):
            open_trusted_checkpoint(signed(*seeds), origin, TRUST)
    forged = bytearray(signed(4))
    forged[-10] ^= 1
    with pytest.raises(FormatError):
        open_trusted_checkpoint(bytes(forged), origin, TRUST)
    with pytest.raises(FormatError):
        open_trusted_checkpoint(signed(4, name="ward.example"), "ward.example", TRUST)


@pytest.mark.parametrize(
    "authorities", [{"a": b64(FIRST), "b": b64(FIRST)}, {"a": b64(LOG_KEY), "b": b64(FIRST)}]
)
def test_one_key_under_two_names_is_refused(authorities: dict[str, str]) -> None:
    """Else one signer would count as two of a threshold, or sign for two purposes."""
    with pytest.raises(TrustError, match="a key is listed twice"):
        parse_trust(document(authorities=authorities))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"text"',
        "{",
        "[" * 100_000,
        '{"log_name":' * 100_000,
        '{"log_name": NaN}',
        '{"log_name": Infinity}',
        '{"authority_threshold": ' + "9" * 5_000 + "}",
        '{"log_name": "a", "log_name": "b"}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        TRUST.to_json().encode("utf-16"),
        TRUST.to_json() + "{}",
    ],
)
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(TrustError):
        parse_trust(text)


def test_second_member_of_a_name_is_refused_at_any_depth() -> None:
    text = TRUST.to_json().replace('"topic"', '"kind": "other", "topic"')
    with pytest.raises(TrustError, match="two members of one name"):
        parse_trust(text)


def test_oversized_file_is_refused_before_it_is_read() -> None:
    with pytest.raises(TrustError, match="above the limit"):
        parse_trust(" " * (MAX_TRUST_BYTES + 1))


@given(st.dictionaries(st.sampled_from(list(json.loads(TRUST.to_json()))), JSON_VALUES))
def test_wrong_types_are_a_trust_root_or_one_error(changes: dict[str, Any]) -> None:
    try:
        trust = parse_trust(document(**changes))
    except TrustError:
        return
    assert parse_trust(trust.to_json()) == trust


@given(st.text() | st.binary())
def test_hostile_text_is_one_error(text: str | bytes) -> None:
    with pytest.raises(TrustError):
        parse_trust(text)
