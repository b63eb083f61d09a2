"""Key files: one private key each, JSON {"did", "key_id", "seed"}, readable by its owner only.

Devices, authorities and the log itself use the same form. A file that others can read is refused, as ssh
does: a key that somebody may have copied proves nothing.
"""

import base64
import binascii
import json
import os
import stat
from pathlib import Path

from pipeline.settings import UsageError
from schemas.did import encode_did_key
from schemas.ed25519 import SEED_BYTES, public_key
from schemas.signing import SigningIdentity

MAX_KEY_FILE_BYTES = 16 * 1024


def create_identity(key_id: str, seed: bytes | None = None) -> SigningIdentity:
    """Make an identity whose DID is the did:key of its own public key."""
    seed = seed or os.urandom(SEED_BYTES)
    return SigningIdentity(encode_did_key(public_key(seed)), key_id, seed)


def save_identity(path: Path, identity: SigningIdentity) -> None:
    """Write a new key file, durably and with mode 0600; raises UsageError where one exists."""
    document = {
        "did": identity.did,
        "key_id": identity.key_id,
        "seed": base64.b64encode(identity.seed).decode(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write the key file {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())


def load_identity(path: Path) -> SigningIdentity:
    """Read a key file; raises UsageError, never quoting its content."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read the key file {path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"the key file {path} has mode {mode:04o}; it must be 0600")
    try:
        document = json.loads(data)
        seed = base64.b64decode(document["seed"], validate=True)
        identity = SigningIdentity(str(document["did"]), str(document["key_id"]), seed)
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise UsageError(f"{path} is not a key file") from error
    if len(identity.seed) != SEED_BYTES:
        raise UsageError(f"{path} does not hold a {SEED_BYTES}-byte seed")
    return identity


def load_or_create(path: Path, key_id: str) -> SigningIdentity:
    """Read a key file, or write a new key there."""
    if not path.exists():
        save_identity(path, create_identity(key_id))
    return load_identity(path)
