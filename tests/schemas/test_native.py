"""Which verifier is at work: the environment says, and what it cannot have stops the start with one line."""

import os
import subprocess
import sys
from types import ModuleType

import pytest

from schemas import ed25519
from schemas.errors import VerifierError
from schemas.native import NEEDED, VARIABLE, choose_crate


@pytest.fixture
def crate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("attestream_fast")
    for name in NEEDED:
        setattr(module, name, None)
    monkeypatch.setitem(sys.modules, "attestream_fast", module)
    return module


@pytest.fixture
def without_crate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "attestream_fast", None)  # what makes an import fail


@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}, {VARIABLE: "auto"}, {VARIABLE: "require"}])
def test_the_crate_is_used_where_it_is_installed(crate: ModuleType, environ: dict[str, str]) -> None:
    assert choose_crate(environ) is crate


@pytest.mark.usefixtures("crate")
def test_off_is_python_though_the_crate_is_installed() -> None:
    assert choose_crate({VARIABLE: "off"}) is None


@pytest.mark.usefixtures("without_crate")
@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}, {VARIABLE: "auto"}, {VARIABLE: "off"}])
def test_without_the_crate_python_does_it(environ: dict[str, str]) -> None:
    assert choose_crate(environ) is None


@pytest.mark.usefixtures("without_crate")
def test_require_without_the_crate_is_refused() -> None:
    with pytest.raises(VerifierError, match=r"ATTESTREAM_NATIVE=require, but .*make native"):
        choose_crate({VARIABLE: "require"})


@pytest.mark.parametrize("name", NEEDED)
def test_a_crate_of_another_version_is_none(crate: ModuleType, name: str) -> None:
    delattr(crate, name)
    assert choose_crate({}) is None
    with pytest.raises(VerifierError, match=f"of another version and has no {name}"):
        choose_crate({VARIABLE: "require"})


@pytest.mark.parametrize("value", ["on", "OFF", "1", "auto "])
def test_another_value_is_refused_by_name(value: str) -> None:
    with pytest.raises(VerifierError, match="must be one of auto, off, require"):
        choose_crate({VARIABLE: value})


def test_a_command_that_cannot_have_its_verifier_says_so_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", "verify", "nothing", "--trust", "nothing"],
        env={**os.environ, VARIABLE: "sometimes"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"attestream: {VARIABLE} is 'sometimes', and must be one of auto, off, require\n"


def test_the_name_tells_which_one_this_process_has() -> None:
    assert ed25519.VERIFIER.startswith(("attestream_fast (", "ed25519_zebra"))
