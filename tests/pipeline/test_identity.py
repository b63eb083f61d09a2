"""Key files: whole or absent, for their owner only, and never quoted."""

import base64
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.identity import (
    MAX_KEY_FILE_BYTES,
    create_identity,
    load_identity,
    load_or_create,
    save_identity,
)
from pipeline.settings import UsageError
from schemas.did import decode_did_key

SEED = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "device.key.json"


def test_a_new_identity_names_its_own_key(path: Path) -> None:
    made = create_identity("k1")
    assert decode_did_key(made.did) == made.public_key
    assert create_identity("k1").seed != made.seed
    save_identity(path, made)
    assert load_identity(path) == made
    assert create_identity("k1", SEED).seed == SEED


def test_the_file_is_its_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        save_identity(path, create_identity("k1"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o777, 0o610, 0o601])
def test_a_file_that_others_can_open_is_refused(path: Path, mode: int) -> None:
    save_identity(path, create_identity("k1"))
    path.chmod(mode)
    with pytest.raises(UsageError, match="must be 0600"):
        load_identity(path)
    path.chmod(0o400)
    load_identity(path)


def test_a_key_is_never_replaced(path: Path) -> None:
    first = create_identity("k1")
    save_identity(path, first)
    with pytest.raises(UsageError, match="cannot write the key file"):
        save_identity(path, create_identity("k2"))
    assert load_identity(path) == first
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_crash_while_writing_leaves_no_file_in_the_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(UsageError, match="No space left"):
            save_identity(path, create_identity("k1"))
    assert list(path.parent.iterdir()) == []
    assert load_or_create(path, "k1") == load_identity(path)


def test_of_many_that_make_the_same_key_at_once_all_get_one(path: Path) -> None:
    found, start = [], threading.Barrier(8)

    def make() -> None:
        start.wait()
        found.append(load_or_create(path, "k1"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(each == found[0] for each in found)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)


def document(**changes: object) -> bytes:
    return json.dumps(
        {"did": "did:web:x", "key_id": "k1", "seed": base64.b64encode(SEED).decode(), **changes}
    ).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b"[" * MAX_KEY_FILE_BYTES,
        document(seed=None),
        document(seed="secret!"),
        document(seed=base64.b64encode(SEED[:31]).decode()),
        document(seed=base64.b64encode(SEED + b"\0").decode()),
        document(seed="é"),
        document(seed=7),
        document(did="x" * MAX_KEY_FILE_BYTES),
    ],
    ids=lambda content: content[:24].decode("latin-1"),
)
def test_what_is_no_key_file_is_refused_without_being_quoted(path: Path, content: bytes) -> None:
    write(path, content)
    with pytest.raises(UsageError) as caught:
        load_identity(path)
    assert "secret" not in str(caught.value)
    assert str(path) in str(caught.value)


@given(noise=st.binary(max_size=60))
def test_noise_is_one_error(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.mktemp("keys") / "device.key.json"
    write(path, noise)
    with pytest.raises(UsageError):
        load_identity(path)


def test_a_missing_file_or_folder_is_the_users_to_mend(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_identity(path)
    with pytest.raises(UsageError, match="Is a directory"):
        load_identity(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot write the key file"):
        save_identity(tmp_path / "file" / "x.key.json", create_identity("k1"))


def test_a_seed_shows_in_no_text_of_an_identity() -> None:
    made = create_identity("k1", SEED)
    for text in (repr(made), str(made), f"{made}"):
        assert repr(SEED) not in text
        assert base64.b64encode(SEED).decode() not in text
