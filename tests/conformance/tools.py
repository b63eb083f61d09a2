"""Getting the tools: programs of Go, Python and Node at pinned versions, kept in the user's cache.

Nothing is put into the project's own environment. A tool that is there already is taken as it is, so a warm
start takes no time and no network.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from tests.conformance.tally import UnavailableError

FSCK = "github.com/transparency-dev/tessera/cmd/fsck@v1.0.4"
LITEWITNESS = "filippo.io/torchwood/cmd/litewitness@v0.10.0"
LITEWITNESS_GO = "go1.27.3"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
ASYNCAPI_CLI = Path(__file__).with_name("asyncapi-cli")
OLDEST_PYTHON = (3, 12)
INSTALL_TIMEOUT_S = 900.0
PROBE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class PythonTools:
    """The commands of the Python environment."""

    folder: Path

    def command(self, name: str) -> str:
        """The path of one of its commands."""
        return str(self.folder / "bin" / name)


def cache_folder() -> Path:
    """Where tools are kept between runs."""
    return user_cache_path("attestream") / "conformance"


def tessera_fsck() -> str:
    """Tessera's fsck."""
    return _go_program(FSCK, None)


def litewitness() -> str:
    """Torchwood's litewitness, which signs with keys of an ssh-agent."""
    for name in ("ssh-agent", "ssh-add"):
        if shutil.which(name) is None:
            raise UnavailableError(f"{name} is not on the PATH")
    return _go_program(LITEWITNESS, LITEWITNESS_GO)


def python_tools() -> PythonTools:
    """Proofbundle, aics-tlog and aics-witness."""
    pinned = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    python = _newer_python()
    folder = cache_folder() / f"python-{pinned}"
    done = folder / "complete"
    with _locked(folder.name):
        if not done.exists() or _version_of(str(folder / "bin" / "python")) is None:
            _run([python, "-m", "venv", "--clear", str(folder)], "making a Python environment")
            pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
            _run([*pip, "install", "-q", "--require-hashes", "-r", str(REQUIREMENTS)], "installing verifiers")
            done.touch()
    return PythonTools(folder)


def asyncapi_cli() -> str:
    """The AsyncAPI CLI, of the last version for Node 20."""
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            raise UnavailableError(f"{name} is not on the PATH")
    pinned = hashlib.sha256((ASYNCAPI_CLI / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = cache_folder() / f"asyncapi-{pinned}"
    done = folder / "complete"
    with _locked(folder.name):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(ASYNCAPI_CLI, folder)
            # Nothing that comes with it runs while it is installed.
            install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
            _run(install, "installing the AsyncAPI CLI")
            done.touch()
    return str(folder / "node_modules" / ".bin" / "asyncapi")


def _go_program(package: str, toolchain: str | None) -> str:
    go = shutil.which("go")
    path, version = package.split("@")
    folder = cache_folder() / "go" / version
    program = folder / path.rsplit("/", 1)[1]
    with _locked(program.name):
        if not program.exists():
            if go is None:
                raise UnavailableError("go is not on the PATH")
            environment = {**os.environ, "GOBIN": str(folder)}
            if toolchain is not None:
                environment["GOTOOLCHAIN"] = toolchain
            _run([go, "install", package], f"building {package}", environment)
    return str(program)


def _newer_python() -> str:
    """An interpreter that is new enough, wherever such things are kept."""
    names = ["python3.14", "python3.13", "python3.12", "python3"]
    found = [sys.executable, *filter(None, map(shutil.which, names))]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for name in ("3.13*", "3.12*"):
        found += map(str, sorted(versions.glob(f"{name}/bin/python3")))
    for python in found:
        # A name on the PATH may be a shim that only says which version is not chosen.
        version = _version_of(python)
        if version is not None and version >= OLDEST_PYTHON:
            return python
    raise UnavailableError("no Python 3.12 or newer is on the PATH or in pyenv")


def _version_of(python: str) -> tuple[int, int] | None:
    code = "import sys, venv; print(*sys.version_info[:2])"
    try:
        said = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if said.returncode:
        return None
    major, minor = said.stdout.split()
    return int(major), int(minor)


def _run(command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    print(f"{what}, once", flush=True)
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{what}: {error}") from error
    if done.returncode:
        raise UnavailableError(f"{what}: {' / '.join(done.stdout.strip().splitlines()[-3:])}")


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Two runs at once install a tool once; the kernel frees the lock with its holder."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
