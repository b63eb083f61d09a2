"""The operator's key file and the client's settings: what cannot work is refused at once."""

import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, generate_private_key

from anchors.errors import LedgerConfigError
from anchors.hedera.client import HederaLedger
from anchors.hedera.config import HederaConfig
from anchors.hedera.keys import create_operator_key, load_operator_key, public_key_bytes


def test_a_created_key_is_private_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "operator.key"
    public_key = create_operator_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public_key_bytes(load_operator_key(path)) == public_key


def test_a_key_is_never_overwritten(operator_key_path: Path) -> None:
    before = operator_key_path.read_bytes()
    with pytest.raises(LedgerConfigError, match="cannot be written"):
        create_operator_key(operator_key_path)
    assert operator_key_path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_may_read_is_refused(operator_key_path: Path, mode: int) -> None:
    operator_key_path.chmod(mode)
    with pytest.raises(LedgerConfigError, match="must be 0600"):
        load_operator_key(operator_key_path)


def test_files_that_hold_no_ed25519_key(tmp_path: Path) -> None:
    path = tmp_path / "bad.key"
    other = generate_private_key(SECP256K1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content in (b"", b"secret words", other):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(LedgerConfigError) as caught:
            load_operator_key(path)
        assert "secret" not in str(caught.value)
    with pytest.raises(LedgerConfigError, match="cannot be read"):
        load_operator_key(tmp_path / "missing.key")


GOOD: dict[str, Any] = {
    "operator_account": "0.0.2",
    "operator_key_path": Path("operator.key"),
    "mirror_url": "http://127.0.0.1:1",
    "nodes": {"127.0.0.1:2": "0.0.3"},
}


@pytest.mark.parametrize(
    "change",
    [
        {"operator_account": "2"},
        {"nodes": {"127.0.0.1:2": "three"}},
        {"nodes": {}},
        {"network": "localhost"},
        {"network": "solo"},
        {"mirror_url": "file:///etc/passwd"},
        {"mirror_url": "http://"},
        {"mirror_url": "http://host:port"},
        {"valid_duration_s": 0},
        {"valid_duration_s": 181},
        {"call_timeout_s": 0},
        {"call_timeout_s": 20.0},
    ],
)
def test_settings_that_cannot_work(change: dict[str, Any]) -> None:
    with pytest.raises(LedgerConfigError):
        HederaConfig(**(GOOD | change))


def test_settings_for_a_public_network_need_no_nodes() -> None:
    config = HederaConfig(**(GOOD | {"network": "testnet", "nodes": {}, "mirror_api_key": "hidden"}))
    assert "hidden" not in repr(config)


def test_a_topic_that_is_none(operator_key_path: Path) -> None:
    config = HederaConfig(**(GOOD | {"operator_key_path": operator_key_path}))
    with pytest.raises(LedgerConfigError, match="topic"):
        HederaLedger(config, "my topic")
