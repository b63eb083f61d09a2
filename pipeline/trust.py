"""This deployment's trust file and keys: made once by the local stack, read by every process.

Layout of the data folder: `trust.json`, and `keys/` (0700) with `log.key.json`, which signs checkpoints,
`authority.key.json`, which signs registry entries, and the ledger operator's key. After a rotation the log's
key is `log.<first 8 hex digits of the public key>.key.json`: which one signs, the trust file says.
"""

import fcntl
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.durable import replace_file
from pipeline.identity import create_identity, load_identity, load_or_create, save_identity
from pipeline.settings import Settings, UsageError
from schemas import ed25519
from schemas.errors import FormatError
from schemas.note import Ed25519Signer
from schemas.signing import SigningIdentity
from schemas.trust import LedgerTrust, TrustRoot, parse_trust

AUTHORITY_KEY_ID = "authority-1"

LogSigners = Callable[[str], Ed25519Signer]
"""From an origin to the signer of its checkpoints."""


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
    expected = load_trust(trust_path(settings)).log_key
    rotated = key_path(settings, _rotated_name(expected))
    path = rotated if rotated.exists() else path
    identity = load_identity(path)
    if identity.public_key != expected:
        raise UsageError(
            f"{path} is not the log key of {trust_path(settings)}: nobody would believe its checkpoints"
        )
    return identity


def log_signers(settings: Settings) -> LogSigners:
    """Return what signs checkpoints as any origin, with the log's key.

    The one place that turns the key into signatures. A token or a key service goes here: its `sign_raw` asks
    that instead of using a seed, and no caller sees a difference.
    """
    identity = log_identity(settings)
    sign_raw = partial(ed25519.sign, identity.seed)
    return lambda origin: Ed25519Signer(origin, identity.public_key, sign_raw)


def rotate_log_key(settings: Settings) -> TrustRoot:
    """Make a new log key and let it sign from now on; what the old one signed still verifies.

    The trust file decides which key signs, so replacing it is the whole switch. Returns the new trust root.
    """
    identity = create_identity("log")
    # A crash between the two leaves a key file that nothing names.
    save_identity(key_path(settings, _rotated_name(identity.public_key)), identity)
    return _change(
        settings,
        lambda trust: replace(trust, log_key=identity.public_key, previous_log_keys=trust.log_keys),
    )


def _rotated_name(public_key: bytes) -> str:
    return f"log.{public_key[:4].hex()}"


def authority_identity(settings: Settings, key: Path | None = None) -> SigningIdentity:
    """Return the authority of a key file, or the local one: it is made before the trust file that names it.

    Raises UsageError for a key that the trust file does not name as an authority's.
    """
    path = key or key_path(settings, "authority")
    if key is None and not trust_path(settings).exists():
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

    def noted(trust: TrustRoot) -> TrustRoot:
        known = trust.ledger
        is_same_topic = (known.kind, known.topic) == (ledger.kind, ledger.topic)
        kept = known.checkpoints if is_same_topic else ()
        return replace(trust, ledger=replace(ledger, checkpoints=ledger.checkpoints or kept))

    _change(settings, noted)


def record_witnesses(settings: Settings, policy: str) -> None:
    """Note whose cosignatures the anchors carry: a C2SP tlog-policy.

    Raises UsageError for one that a trust file cannot hold: malformed, or with a key of another purpose.
    """
    try:
        _change(settings, lambda trust: replace(trust, witness_policy=policy))
    except FormatError as error:
        raise UsageError(f"the witness policy: {error}") from error


def _change(settings: Settings, change: Callable[[TrustRoot], TrustRoot]) -> TrustRoot:
    """Change the trust file while no other process does; what is written can be read again. Returns it."""
    path = trust_path(settings)
    with (path.parent / "trust.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        trust = load_trust(path)
        changed = change(trust)
        if changed != trust:
            _write(path, parse_trust(changed.to_json()))
        return changed


def _write(path: Path, trust: TrustRoot) -> None:
    replace_file(path, f"{trust.to_json()}\n".encode())
