"""Key files: one private key each, JSON {"did", "key_id", "seed"}, readable by its owner only.

Devices, authorities and the log itself use the same form. A file that others can read is refused, as ssh
does: a key that somebody may have copied proves nothing.
"""

import base64
import json
import os
import stat
import tempfile
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
    """Write a new key file, durably and with mode 0600; raises UsageError where one exists.

    It appears whole or not at all: an empty file after a crash would block the way for good.
    """
    document = {
        "did": identity.did,
        "key_id": identity.key_id,
        "seed": base64.b64encode(identity.seed).decode(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes it 0600 from the start.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # a rename would replace a key that exists
        finally:
            Path(temporary).unlink()
        _sync_folder(path.parent)
    except OSError as error:
        raise UsageError(f"cannot write the key file {path}: {error.strerror}") from error


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is not a key file") from error
    if len(identity.seed) != SEED_BYTES:
        raise UsageError(f"{path} does not hold a {SEED_BYTES}-byte seed")
    return identity


def load_or_create(path: Path, key_id: str) -> SigningIdentity:
    """Read a key file, or write a new key there."""
    if not path.exists():
        try:
            save_identity(path, create_identity(key_id))
        except UsageError:
            if not path.exists():  # else another process was faster, and its key is the one
                raise
    return load_identity(path)
