"""The jars of the local Apache Kafka: a pinned list, fetched once into the user's cache.

`kafka_jars.txt` names every jar with its SHA-256, so a mirror or a proxy can delay the stack but not
change it. jgo speaks to the Maven repository; a jar is fetched aside, checked, and renamed into
place, so an interrupted download resumes at the next jar and two processes cannot spoil each other's.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pipeline.local.errors import JarsUnavailableError
from pipeline.settings import Settings

KAFKA_VERSION = "4.4.0"
MIRROR = "ATTESTREAM_MAVEN_MIRROR"
PARALLEL_DOWNLOADS = 4
ATTEMPTS = 3
TIMEOUT_S = 15

OnProgress = Callable[[int, int], None]
"""Called with (bytes fetched so far, bytes in total) while jars are downloaded."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of `kafka_jars.txt`."""

    coordinate: str
    """Maven's `group:artifact:version`."""
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Name of the file in the jar directory."""
        _group, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def pinned() -> tuple[Jar, ...]:
    """The pinned jars, in the order of the class path."""
    text = files("pipeline.local").joinpath("kafka_jars.txt").read_text("utf-8")
    rows = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return tuple(Jar(coordinate, int(size), digest) for coordinate, size, digest in rows)


def default_cache_dir() -> Path:
    """The cache that all data directories of this user share."""
    return Settings().cache_dir


def jar_dir(cache_dir: Path) -> Path:
    """Where this Kafka's jars lie inside the cache."""
    return cache_dir / f"kafka-{KAFKA_VERSION}"


def missing(cache_dir: Path) -> list[Jar]:
    """The pinned jars that are absent from the cache or are not what they should be."""
    folder = jar_dir(cache_dir)
    return [jar for jar in pinned() if not _is_intact(folder / jar.file_name, jar)]


def prepare(cache_dir: Path, on_progress: OnProgress = lambda _done, _total: None) -> Path:
    """Make sure that every pinned jar is in the cache; return their directory.

    Raises JarsUnavailableError, saying what is missing and how to go on, when one cannot be fetched.
    """
    folder = jar_dir(cache_dir)
    if not missing(cache_dir):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with locked(cache_dir / "jars.lock"):
        wanted = missing(cache_dir)  # again: another process may have fetched them while we waited
        if wanted:
            _fetch(folder, wanted, on_progress)
    return folder


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an advisory lock on `path`, which the kernel drops when we die. BlockingIOError if not `wait`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def _is_intact(path: Path, jar: Jar) -> bool:
    try:
        if path.stat().st_size != jar.size_bytes:
            return False
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _fetch(folder: Path, wanted: list[Jar], on_progress: OnProgress) -> None:
    mirror = os.environ.get(MIRROR)
    meter = _Meter(sum(jar.size_bytes for jar in wanted), on_progress)
    if "SSL_CERT_FILE" in os.environ:  # requests, below jgo, looks only at its own variable
        os.environ.setdefault("REQUESTS_CA_BUNDLE", os.environ["SSL_CERT_FILE"])
    with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        tasks = [pool.submit(_fetch_one, folder, jar, mirror, meter) for jar in wanted]
        try:
            for task in tasks:
                task.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, Exception):
                raise JarsUnavailableError(_how_to_go_on(folder, mirror, error)) from error
            raise


def _fetch_one(folder: Path, jar: Jar, mirror: str | None, meter: "_Meter") -> None:
    from jgo.maven import MavenContext, PythonResolver

    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        for attempt in range(1, ATTEMPTS + 1):
            repository = Path(scratch, str(attempt))
            context = MavenContext(
                resolver=PythonResolver(progress_callback=meter.track),
                repo_cache=repository,
                remote_repos={"mirror": mirror.rstrip("/")} if mirror else None,
                timeout=TIMEOUT_S,
            )
            try:
                path = context.create_dependency(jar.coordinate).artifact.resolve()
                if not _is_intact(path, jar):
                    raise OSError(f"{jar.coordinate} arrived with another SHA-256 than {jar.sha256}")
            except (OSError, RuntimeError):  # requests' own errors are OSErrors
                if attempt == ATTEMPTS:
                    raise
            else:
                path.replace(folder / jar.file_name)
                return


class _Meter:
    """Adds up the bytes of parallel downloads, in the form that jgo reports them."""

    def __init__(self, total_bytes: int, on_progress: OnProgress) -> None:
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._on_progress = on_progress
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def track(self, _file_name: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        yield self._advance

    def _advance(self, count: int) -> None:
        with self._lock:
            self._done_bytes += count
            self._on_progress(min(self._done_bytes, self._total_bytes), self._total_bytes)


def _how_to_go_on(folder: Path, mirror: str | None, error: Exception) -> str:
    absent = missing(folder.parent)
    total = len(pinned())
    megabytes = sum(jar.size_bytes for jar in absent) / 1e6
    return (
        f"{len(absent)} of the {total} jars of Apache Kafka {KAFKA_VERSION} ({megabytes:.0f} MB) are missing "
        f"from {folder}\nand could not be fetched from {mirror or 'Maven Central'}: {_reason(error)}\n"
        "To go on, choose one:\n"
        "  - behind a proxy: set HTTPS_PROXY, and REQUESTS_CA_BUNDLE if it signs TLS itself\n"
        f"  - with a mirror of Maven Central: set {MIRROR}=URL\n"
        f"  - copy the directory {folder.name}/ from a machine that has it into {folder.parent}\n"
        "  - use a Kafka that runs already: attestream up --bootstrap-servers HOST:PORT"
    )


def _reason(error: Exception) -> str:
    """The innermost cause in a line: requests wraps the telling sentence three layers deep."""
    innermost: BaseException = error
    while isinstance(innermost, OSError | RuntimeError) and innermost.args:
        nested = getattr(innermost.args[0], "reason", None) or innermost.args[0]
        if not isinstance(nested, BaseException):
            break
        innermost = nested
    return f"{type(innermost).__name__}: {innermost}".splitlines()[0][:300]
