"""Tessera's log of our leaves has the root that they have here, and a job that is none ends it in one line.

Where Go or its modules are not here that is the reason that is given, and is what is tested.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from loadtests import baselines
from loadtests.children import Child, ChildError
from loadtests.published import bundles
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import open_checkpoint
from schemas.note import parse_vkey
from schemas.records import encode_leaf, record_digest
from schemas.tile import encode_bundle
from tests.kit.deployment import wait_for
from tests.kit.goprograms import built

SOURCE = Path(baselines.__file__).with_name("tessera")
LEAVES = [
    encode_leaf(offset, 1_790_000_000_000 + offset, record_digest(b"device", (), b"%d" % offset))
    for offset in range(1000)
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    return built(SOURCE, tmp_path_factory.mktemp("built") / "tessera-posix")


def job(folder: Path, bundle: bytes, **changes: object) -> dict[str, Any]:
    (folder / "entries").write_bytes(bundle)
    return {
        "entries": str(folder / "entries"),
        "folder": str(folder / "log"),
        "batch_size": 300,
        "batch_age_ms": 100,
        "checkpoint_ms": 100,
        **changes,
    }


def test_it_has_the_root_of_the_same_leaves(program: Path | None, tmp_path: Path) -> None:
    if program is None:
        return
    said: list[Mapping[str, Any]] = []
    asked = job(tmp_path, encode_bundle(LEAVES))
    with Child("Tessera", asked, said.append, command=[str(program)]) as child:
        given = child.wait_ready()
        wait_for(lambda: said, "all is published")
        child.end()
    found = open_checkpoint((tmp_path / "log" / "checkpoint").read_bytes(), parse_vkey(given["key"]))
    builder = TreeBuilder()
    builder.append(LEAVES)
    assert (found.checkpoint.size, found.checkpoint.root) == (len(LEAVES), builder.root())
    assert b"".join(bundles(tmp_path / "log")) == encode_bundle(LEAVES)
    assert (given["entries"], said[0]["entries"], said[0]["over"]) == (len(LEAVES), len(LEAVES), True)
    assert min(said[0]["seconds"], said[0]["user_s"] + said[0]["system_s"], said[0]["rss_mib"]) > 0


def test_it_ends_when_nobody_listens_any_more(program: Path | None, tmp_path: Path) -> None:
    if program is None:
        return
    # One entry waits for its batch for longer than anybody.
    asked = job(tmp_path, encode_bundle(LEAVES[:1]), batch_age_ms=3_600_000)
    with Child("Tessera", asked, command=[str(program)]) as child:
        child.wait_ready()
        with pytest.raises(ChildError, match="the input ended before the work did"):
            child.end()
        assert child.ended


def test_it_does_not_outlive_an_interruption(program: Path | None, tmp_path: Path) -> None:
    if program is None:
        return
    asked = job(tmp_path, encode_bundle(LEAVES[:1]), batch_age_ms=3_600_000)
    child = Child("Tessera", asked, command=[str(program)])
    child.wait_ready()
    with pytest.raises(KeyboardInterrupt), child:
        raise KeyboardInterrupt
    assert child.ended


@pytest.mark.parametrize(
    ("line", "bundle", "said"),
    [
        ("", b"", "no job on standard input"),
        ("noise\n", b"", "the job is none"),
        ('{"entries": 5}\n', b"", "the job is none"),
        ('{"more": 5}\n', b"", "unknown field"),
        ("{}\n", b"", "names no entries"),
        ({"batch_size": 0}, b"", "no batch of 1 to"),
        ({"batch_size": 1 << 21}, b"", "no batch of 1 to"),
        ({"batch_age_ms": -1}, b"", "the job is none"),
        ({"checkpoint_ms": 99}, b"", "no interval of 100 ms"),
        ({"entries": "/nonexistent"}, b"", "no such file"),
        ({}, b"", "has no entries"),
        ({}, b"\x00", "ends within the length of entry 0"),
        ({}, encode_bundle(LEAVES[:3])[:-1], "ends within entry 2"),
    ],
)
def test_a_job_that_is_none(
    program: Path | None, tmp_path: Path, line: str | dict[str, object], bundle: bytes, said: str
) -> None:
    if program is None:
        return
    given = line if isinstance(line, str) else json.dumps(job(tmp_path, bundle, **line)) + "\n"
    done = subprocess.run([program], input=given, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("tessera: ")
    assert said in last


def test_the_source_is_as_gofmt_and_vet_want_it(program: Path | None) -> None:
    if program is None:
        return
    go = shutil.which("go") or ""
    formatted = subprocess.run(
        [shutil.which("gofmt") or Path(go).with_name("gofmt"), "-l", "."],
        cwd=SOURCE, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert formatted.stdout == ""
    vetted = subprocess.run(
        [go, "vet", "."], cwd=SOURCE, capture_output=True, text=True, check=False, timeout=200
    )
    assert vetted.returncode == 0, vetted.stderr
