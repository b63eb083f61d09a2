"""What Go has to be asked before a program of it is tested: is it here, and can its modules be had?"""

import shutil
import subprocess
from pathlib import Path

import pytest

from loadtests.goprogram import NotBuiltError, build


def built(source: Path, program: Path) -> Path | None:
    """Build it and return where it is; None where Go or its modules are not here, which is then said."""
    go = shutil.which("go")
    if go is not None:
        fetched = subprocess.run(
            [go, "mod", "download"], cwd=source, capture_output=True, text=True, check=False, timeout=200
        )
        if fetched.returncode == 0:
            build(source, program)
            return program
    with pytest.raises(NotBuiltError, match=r"go is not on the PATH|go build has failed: ."):
        build(source, program)
    return None
