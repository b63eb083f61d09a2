"""A deployment's trust file and keys: made once, and never quietly at odds with each other."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.identity import create_identity, save_identity
from pipeline.settings import Settings, UsageError
from pipeline.trust import (
    AUTHORITY_KEY_ID,
    authority_identity,
    init_local,
    key_path,
    load_trust,
    log_identity,
    log_signers,
    record_ledger,
    rotate_log_key,
    trust_path,
)
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.errors import FormatError
from schemas.evidence import ChainPoint
from schemas.note import format_note
from schemas.trust import LedgerTrust, open_trusted_checkpoint

LEDGER = LedgerTrust("hedera:attestream-local", "0.0.1001", "0.0.2")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, log_name="ward.example", bootstrap_servers="127.0.0.1:1")


def test_a_new_deployment_trusts_its_own_keys(settings: Settings) -> None:
    init_local(settings)
    trust = load_trust(trust_path(settings))
    assert trust.log_name == "ward.example"
    assert trust.log_key == log_identity(settings).public_key
    assert trust.authorities == {AUTHORITY_KEY_ID: authority_identity(settings).public_key}
    assert trust.authority_threshold == 1
    for name in ("log", "authority"):
        assert stat.S_IMODE(key_path(settings, name).stat().st_mode) == 0o600


def test_a_second_start_changes_nothing(settings: Settings) -> None:
    init_local(settings)
    record_ledger(settings, LEDGER)
    before = {path: path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()}
    init_local(settings)
    record_ledger(settings, LEDGER)
    assert {path: path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()} == before


def test_an_interrupted_first_start_goes_on_with_the_keys_that_are_there(settings: Settings) -> None:
    log_key = log_identity(settings).public_key
    init_local(settings)
    assert load_trust(trust_path(settings)).log_key == log_key


def test_a_data_folder_belongs_to_one_log(settings: Settings) -> None:
    init_local(settings)
    with pytest.raises(UsageError, match=r"belongs to the log ward\.example"):
        init_local(settings.model_copy(update={"log_name": "other.example"}))


def test_the_ledger_is_noted_and_nothing_else_changes(settings: Settings) -> None:
    init_local(settings)
    before = load_trust(trust_path(settings))
    record_ledger(settings, LEDGER)
    assert load_trust(trust_path(settings)) == replace(before, ledger=LEDGER)
    assert not list(settings.data_dir.glob("*.tmp"))


@pytest.mark.parametrize("name", ["log", "authority"])
def test_a_lost_key_is_not_replaced_by_one_that_nobody_trusts(settings: Settings, name: str) -> None:
    """A new log key would sign checkpoints that convince nobody; a new authority would be ignored."""
    init_local(settings)
    key_path(settings, name).unlink()
    load = log_identity if name == "log" else authority_identity
    with pytest.raises(UsageError, match="No such file"):
        load(settings)
    assert not key_path(settings, name).exists()


@pytest.mark.parametrize("name", ["log", "authority"])
def test_a_key_that_the_trust_file_does_not_name_signs_nothing(settings: Settings, name: str) -> None:
    init_local(settings)
    key_path(settings, name).unlink()
    save_identity(key_path(settings, name), create_identity(AUTHORITY_KEY_ID))
    load = log_identity if name == "log" else authority_identity
    with pytest.raises(UsageError, match="is not"):
        load(settings)


def test_a_missing_or_bad_trust_file_is_the_users_to_mend(settings: Settings) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_trust(trust_path(settings))
    for content in (b"", b"{}", b"[]", b"\xff", b"null", b"[" * 100_000):
        trust_path(settings).write_bytes(content)
        with pytest.raises(UsageError) as caught:
            load_trust(trust_path(settings))
        assert str(trust_path(settings)) in str(caught.value)


# ---- rotation of the log's key ---------------------------------------------------------------------------


def signed(settings: Settings, size: int = 3) -> bytes:
    origin = f"{settings.log_name}/device.events/0"
    return format_note(sign_checkpoint(Checkpoint(origin, size, bytes(32)), [log_signers(settings)(origin)]))


def opens(settings: Settings, data: bytes) -> bool:
    trust = load_trust(trust_path(settings))
    try:
        open_trusted_checkpoint(data, f"{settings.log_name}/device.events/0", trust)
    except FormatError:
        return False
    return True


def test_a_new_log_key_signs_and_what_the_old_one_signed_still_opens(settings: Settings) -> None:
    init_local(settings)
    record_ledger(settings, LEDGER)
    first = log_identity(settings).public_key
    old = signed(settings)
    seen = {first}
    for _ in range(2):
        rotate_log_key(settings)
        now = log_identity(settings).public_key
        assert now not in seen
        seen.add(now)
        trust = load_trust(trust_path(settings))
        assert trust.log_key == now
        assert set(trust.log_keys) == seen
        assert trust.ledger == LEDGER
        assert opens(settings, signed(settings))
        assert opens(settings, old)
        assert signed(settings) != old
    assert load_trust(trust_path(settings)).previous_log_keys[-1] == first
    for path in key_path(settings, "log").parent.glob("log*.key.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_sealer_that_was_not_restarted_is_still_believed(settings: Settings) -> None:
    init_local(settings)
    origin = f"{settings.log_name}/device.events/0"
    running = log_signers(settings)(origin)
    rotate_log_key(settings)
    assert opens(settings, format_note(sign_checkpoint(Checkpoint(origin, 4, bytes(32)), [running])))


def test_a_crash_between_key_and_trust_file_changes_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_local(settings)
    before = log_identity(settings)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.trust._write", crash)
        with pytest.raises(KeyboardInterrupt):
            rotate_log_key(settings)
    assert log_identity(settings) == before
    rotate_log_key(settings)
    assert log_identity(settings) != before


def test_the_earlier_key_may_be_removed(settings: Settings) -> None:
    init_local(settings)
    old = signed(settings)
    rotate_log_key(settings)
    key_path(settings, "log").unlink()
    assert opens(settings, signed(settings))
    assert opens(settings, old)


def test_points_of_the_ledger_outlive_a_note_of_the_same_topic(settings: Settings) -> None:
    init_local(settings)
    points = (ChainPoint(5, b"h" * 48),)
    record_ledger(settings, replace(LEDGER, checkpoints=points))
    record_ledger(settings, LEDGER)
    assert load_trust(trust_path(settings)).ledger.checkpoints == points
    record_ledger(settings, replace(LEDGER, topic="0.0.9"))
    assert load_trust(trust_path(settings)).ledger.checkpoints == ()
