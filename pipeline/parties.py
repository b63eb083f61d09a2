"""The parties file of this deployment: read, believed, remembered by version, signed.

It is `<data>/parties.note`. Where there is none, nobody is subscribed, and neither route nor deliver runs.
A version that was believed once is remembered in `<data>/state/parties.json`: an older file, which may name
a party that was removed for a reason, is refused from then on.
"""

import fcntl
import json
import os
import stat
from functools import partial
from pathlib import Path

from pipeline.durable import replace_file
from pipeline.settings import PipelineError, Settings, UsageError
from pipeline.trust import load_trust, trust_path
from schemas import ed25519
from schemas.errors import FormatError
from schemas.note import Ed25519Signer, Note, format_note, parse_note, sign_note
from schemas.parties import Parties, open_parties, parse_parties, parties_key_name
from schemas.partyoutputs import MAX_FILE_BYTES, SecretRef
from schemas.signing import SigningIdentity

MAX_SECRET_BYTES = 4096
_SIGNED_BYTES = 2 * MAX_FILE_BYTES


class PartiesError(PipelineError):
    """The parties file cannot be believed, or an output of it has no secret."""


def parties_path(settings: Settings) -> Path:
    """Where this deployment's parties file is."""
    return settings.data_dir / "parties.note"


def has_parties(settings: Settings) -> bool:
    """Tell whether anybody may be subscribed."""
    return parties_path(settings).exists()


def read_parties(settings: Settings) -> Parties:
    """Read the parties file without remembering its version; raises PartiesError."""
    path = parties_path(settings)
    try:
        with path.open("rb") as file:
            data = file.read(_SIGNED_BYTES + 1)
        return open_parties(data, load_trust(trust_path(settings)))
    except OSError as error:
        raise PartiesError(f"cannot read the parties file {path}: {error.strerror}") from error
    except FormatError as error:
        raise PartiesError(f"{path}: {error}") from error


def believe_parties(settings: Settings) -> Parties:
    """Read the parties file and remember its version; raises PartiesError for one that went back."""
    parties = read_parties(settings)
    mark = settings.data_dir / "state" / "parties.json"
    mark.parent.mkdir(parents=True, exist_ok=True)
    with (mark.parent / "parties.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        version, digest = _remembered(mark)
        check_follows(parties, version, digest)
        if parties.version > version:
            _remember(mark, parties)
    return parties


def newest_version(settings: Settings) -> int:
    """Return the highest version that is in force or was believed here; 0 for none. Raises PartiesError."""
    version, _ = _remembered(settings.data_dir / "state" / "parties.json")
    return max(version, read_parties(settings).version) if has_parties(settings) else version


def check_follows(parties: Parties, version: int, digest: bytes) -> None:
    """Raise PartiesError unless `parties` may come after what was believed as `version` (0: nothing yet)."""
    if parties.version < version:
        raise PartiesError(f"the parties file has version {parties.version}, {version} was in force already")
    if parties.version == version and parties.digest != digest:
        raise PartiesError(
            f"the parties file is another one of version {version}: a change needs a new version"
        )


def _remembered(mark: Path) -> tuple[int, bytes]:
    try:
        found = json.loads(mark.read_bytes())
        return int(found["version"]), bytes.fromhex(found["digest"])
    except FileNotFoundError:
        return 0, b""
    except (ValueError, KeyError, TypeError) as error:
        raise PartiesError(f"{mark} is damaged: see which version was in force, then remove it") from error


def _remember(mark: Path, parties: Parties) -> None:
    replace_file(mark, json.dumps({"version": parties.version, "digest": parties.digest.hex()}).encode())


def sign_parties(settings: Settings, data: bytes, identity: SigningIdentity) -> tuple[bytes, Parties]:
    """Sign a parties file, or add a signature to one; return the note and what it says.

    Raises UsageError where the key is no authority's, FormatError for a file that nobody could use.
    """
    trust = load_trust(trust_path(settings))
    if identity.public_key not in trust.authorities.values():
        raise UsageError(f"the key {identity.key_id} is no authority of {trust_path(settings)}")
    sign_raw = partial(ed25519.sign, identity.seed)
    signer = Ed25519Signer(parties_key_name(trust.log_name), identity.public_key, sign_raw)
    earlier = _signed_before(data)
    text = earlier.text if earlier else _as_text(data)
    parties = parse_parties(text, trust.log_name)
    mine = sign_note(text, [signer]).signatures
    kept = [s for s in earlier.signatures if s.key_id != signer.key_id] if earlier else []
    return format_note(Note(text, (*kept, *mine))), parties


def _signed_before(data: bytes) -> Note | None:
    try:
        return parse_note(data)
    except FormatError:
        return None


def _as_text(data: bytes) -> str:
    try:
        # A note ends its text at the last blank line, and has one newline at its end.
        return data.decode().rstrip("\n") + "\n"
    except UnicodeDecodeError as error:
        raise UsageError(f"the parties file is not UTF-8 at byte {error.start}") from error


def check_file(settings: Settings, data: bytes) -> tuple[Parties, bool]:
    """Read a file, signed or not; tell what it says and whether it is signed as it must be.

    Raises FormatError for one that nobody could use, also for a signature that does not hold.
    """
    trust = load_trust(trust_path(settings))
    if _signed_before(data) is not None:
        return open_parties(data, trust), True
    return parse_parties(_as_text(data), trust.log_name), False


def enforce(settings: Settings, data: bytes) -> Path:
    """Put a signed parties file in its place, whole or not at all; raises PartiesError for an old version."""
    path = parties_path(settings)
    parties = open_parties(data, load_trust(trust_path(settings)))
    version, digest = _remembered(settings.data_dir / "state" / "parties.json")
    check_follows(parties, version, digest)
    if path.exists():
        before = read_parties(settings)
        check_follows(parties, before.version, before.digest)
    replace_file(path, data)
    return path


def secret_of(reference: SecretRef) -> str:
    """Fetch a secret; raises PartiesError, which names the place and never the content."""
    if reference.env:
        value = os.environ.get(reference.env, "")
        if not value:
            raise PartiesError(f"the environment variable {reference.env} holds no secret")
        return value
    path = Path(reference.file)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise PartiesError(f"cannot read the secret {path}: {error.strerror}") from error
    if mode & stat.S_IRWXO:
        raise PartiesError(f"the secret {path} has mode {mode:04o}: everybody can read it")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > MAX_SECRET_BYTES:
        raise PartiesError(f"the secret {path} is not a text of 1 to {MAX_SECRET_BYTES} bytes")
    return text
