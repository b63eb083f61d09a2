"""This deployment's trust file and keys: made once by the local stack, read by every process.

Layout of the data folder: `trust.json`, and `keys/` (0700) with `log.key.json`, which signs checkpoints,
`authority.key.json`, which signs registry entries, and the ledger operator's key.
"""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

from pipeline.identity import load_identity, load_or_create
from pipeline.settings import Settings, UsageError
from schemas.errors import FormatError
from schemas.signing import SigningIdentity
from schemas.trust import LedgerTrust, TrustRoot, parse_trust

AUTHORITY_KEY_ID = "authority-1"


def trust_path(settings: Settings) -> Path:
    """Where this deployment's trust file is."""
    return settings.data_dir / "trust.json"


def key_path(settings: Settings, name: str) -> Path:
    """Where a private key of this deployment is: `log`, `authority`."""
    return settings.data_dir / "keys" / f"{name}.key.json"


def operator_key_path(settings: Settings) -> Path:
    """Where the key is that pays for ledger messages (PEM)."""
    return settings.data_dir / "keys" / "ledger-operator.pem"


def load_trust(path: Path) -> TrustRoot:
    """Read a trust file; a missing or bad one is the user's to mend."""
    try:
        return parse_trust(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read the trust file {path}: {error.strerror}") from error
    except FormatError as error:
        raise UsageError(f"{path}: {error}") from error


def log_identity(settings: Settings) -> SigningIdentity:
    """Return the key that signs checkpoints; made before the trust file that names it, never after."""
    path = key_path(settings, "log")
    if not trust_path(settings).exists():
        return load_or_create(path, "log")
    identity = load_identity(path)
    if identity.public_key != load_trust(trust_path(settings)).log_key:
        raise UsageError(
            f"{path} is not the log key of {trust_path(settings)}: nobody would believe its checkpoints"
        )
    return identity


def authority_identity(settings: Settings) -> SigningIdentity:
    """Return the local authority that signs registry entries; made before the trust file that names it."""
    path = key_path(settings, "authority")
    if not trust_path(settings).exists():
        return load_or_create(path, AUTHORITY_KEY_ID)
    identity = load_identity(path)
    if load_trust(trust_path(settings)).authorities.get(identity.key_id) != identity.public_key:
        raise UsageError(
            f"{path} is not an authority of {trust_path(settings)}: its entries would be ignored"
        )
    return identity


def init_local(settings: Settings) -> None:
    """Make keys and trust file where they are missing; change nothing that exists."""
    if trust_path(settings).exists():
        found = load_trust(trust_path(settings)).log_name
        if found != settings.log_name:
            raise UsageError(
                f"{settings.data_dir} belongs to the log {found}, not {settings.log_name}: "
                "name another --data-dir, or set ATTESTREAM_LOG_NAME"
            )
        return
    authority = authority_identity(settings)
    trust = TrustRoot(
        log_name=settings.log_name,
        log_key=log_identity(settings).public_key,
        authorities={authority.key_id: authority.public_key},
    )
    _write(trust_path(settings), trust)


def record_ledger(settings: Settings, ledger: LedgerTrust) -> None:
    """Note which ledger topic carries this log's anchors, for those who get a copy of the trust file."""
    path = trust_path(settings)
    with (path.parent / "trust.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        trust = load_trust(path)
        if trust.ledger != ledger:
            _write(path, replace(trust, ledger=ledger))


def _write(path: Path, trust: TrustRoot) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(trust.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
