"""Builds the virtual environment from the pinned, hashed requirements, showing how far it is.

Run by `make` with the system's Python, so it uses nothing but the standard library:
`python deploy/environment.py .venv requirements.txt`.
"""

import re
import subprocess
import sys
import venv
from collections import deque
from pathlib import Path

OWN = ("anchors", "pipeline", "processors", "schemas")
SUPPORTED = ((3, 11), (3, 13))
KEPT_LINES = 25
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
_WHAT = re.compile(r"(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)")


def main(folder: Path, requirements: Path) -> int:
    """Make the environment anew; return an exit code."""
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        return _fail(f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}")
    wanted = len(re.findall(r"^[a-z0-9._-]+==", requirements.read_text(), re.MULTILINE))
    _say(f"building {folder} with Python {sys.version.split()[0]}, once: {wanted} pinned packages")
    try:
        venv.create(folder, clear=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return _fail(f"the environment cannot be made ({error}); on Debian, install python3-venv")
    python = str(folder / "bin" / "python")
    install = [python, *PIP, "install", "--require-hashes", "-r", str(requirements)]
    own = [python, *PIP, "install", "--no-deps", "--no-build-isolation", "-e", "."]
    # As pip does for what it installs: each start of the local stack loads our code seven times, also where
    # the environment forbids to keep what was compiled on the way.
    compiled = [python, "-m", "compileall", "-q", *OWN]
    return _run(install, wanted) or _run(own, 1) or _run(compiled, 1)


def _run(command: list[str], wanted: int) -> int:
    tail: deque[str] = deque(maxlen=KEPT_LINES)
    seen: set[str] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            tail.append(line.rstrip())
            found = _WHAT.match(line.strip())
            if found and found[1] not in seen:
                seen.add(found[1])
                _progress(f"fetching {len(seen)} of about {wanted}: {found[1]}", len(seen) % 20 == 0)
            elif wanted > 1 and line.startswith("Installing collected packages"):
                _progress("installing", True)
    if process.returncode:
        print(*tail, sep="\n", file=sys.stderr)
        return _fail("a package could not be installed: see above; is the package index reachable?")
    return 0


def _progress(text: str, always: bool) -> None:
    if sys.stdout.isatty():
        print(f"\r\x1b[K  {text}", end="\n" if text == "installing" else "", flush=True)
    elif always:
        _say(f"  {text}")


def _say(text: str) -> None:
    print(text, flush=True)


def _fail(text: str) -> int:
    print(f"attestream: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
