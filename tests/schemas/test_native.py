"""Which verifier is at work: the environment says, and what it cannot have stops the start with one line."""

import os
import subprocess
import sys
from collections.abc import Sequence
from types import ModuleType

import pytest

from schemas import ed25519
from schemas.errors import VerifierError
from schemas.native import VARIABLE, choose_verifier


def wheel(keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]) -> list[bool]:
    return [True]


def crate(keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]) -> list[bool]:
    return [False]


@pytest.fixture
def with_crate(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("attestream_fast")
    module.verify_batch, module.BACKEND = crate, "avx2"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "attestream_fast", module)


@pytest.fixture
def without_crate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "attestream_fast", None)  # what makes an import fail


@pytest.mark.usefixtures("with_crate")
@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}, {VARIABLE: "auto"}, {VARIABLE: "require"}])
def test_the_crate_is_used_where_it_is_installed(environ: dict[str, str]) -> None:
    assert choose_verifier(environ, wheel) == (crate, "attestream_fast (avx2)")


@pytest.mark.usefixtures("with_crate")
def test_off_is_the_wheel_though_the_crate_is_installed() -> None:
    assert choose_verifier({VARIABLE: "off"}, wheel) == (wheel, "ed25519_zebra")


@pytest.mark.usefixtures("without_crate")
@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}, {VARIABLE: "auto"}, {VARIABLE: "off"}])
def test_without_the_crate_the_wheel_does_it(environ: dict[str, str]) -> None:
    assert choose_verifier(environ, wheel) == (wheel, "ed25519_zebra")


@pytest.mark.usefixtures("without_crate")
def test_require_without_the_crate_is_refused() -> None:
    with pytest.raises(VerifierError, match=r"ATTESTREAM_NATIVE=require, but .*make native"):
        choose_verifier({VARIABLE: "require"}, wheel)


@pytest.mark.parametrize("value", ["on", "OFF", "1", "auto "])
def test_another_value_is_refused_by_name(value: str) -> None:
    with pytest.raises(VerifierError, match="must be one of auto, off, require"):
        choose_verifier({VARIABLE: value}, wheel)


def test_a_command_that_cannot_have_its_verifier_says_so_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", "verify", "nothing", "--trust", "nothing"],
        env={**os.environ, VARIABLE: "sometimes"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"attestream: {VARIABLE} is 'sometimes', and must be one of auto, off, require\n"


def test_the_name_tells_which_one_this_process_has() -> None:
    assert ed25519.VERIFIER.startswith(("attestream_fast (", "ed25519_zebra"))
