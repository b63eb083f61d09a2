"""The operator key: an Ed25519 private key in a file that only its owner can read.

The file is unencrypted PKCS #8 PEM, which OpenSSL and the Hiero SDKs read and write too. The key pays
for transactions and signs each message of the topic; it has no other purpose.
"""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchors.errors import LedgerConfigError


def create_operator_key(path: Path) -> bytes:
    """Write a new key, durably and with mode 0600, and return its raw 32-byte public key.

    Raises LedgerConfigError when the file exists (a key is never overwritten) or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise LedgerConfigError(f"the operator key {path} cannot be written: {error}") from error
    return public_key_bytes(key)


def load_operator_key(path: Path) -> Ed25519PrivateKey:
    """Read the key; raises LedgerConfigError when others may read the file or it holds no such key."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            pem = file.read(64 * 1_024)
    except OSError as error:
        raise LedgerConfigError(f"the operator key {path} cannot be read: {error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise LedgerConfigError(f"the operator key {path} has mode {mode:04o}; it must be 0600")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The parser's own words stay out: they could quote the file.
        raise LedgerConfigError(f"the operator key {path} is not an unencrypted PEM key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise LedgerConfigError(f"the operator key {path} is not an Ed25519 key")
    return key


def public_key_bytes(key: Ed25519PrivateKey) -> bytes:
    """The raw 32-byte public key, as `serve` takes it for an operator."""
    return key.public_key().public_bytes_raw()
