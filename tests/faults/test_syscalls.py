"""The machine's disk and its stages over files: what the sweeps of system calls rest on."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.faults.machine.syscalls import checks
from tests.faults.machine.syscalls.disk import MARK, Call, Disk, Variant, write_image
from tests.faults.machine.syscalls.shim import Kind, ToolMissingError, find_tool
from tests.faults.machine.syscalls.stages import prepare
from tests.faults.machine.syscalls.worlds import AnchorJudge, SealJudge, expected_roots

ROOT = Path(__file__).parents[2]


def call(kind: int, path: str, other: str = "", data: bytes = b"", offset: int = 0, result: int = 0) -> Call:
    return Call(kind, len(data) if data else result, path, other, offset, data)


def after(*calls: Call) -> Disk:
    disk = Disk()
    for each in calls:
        disk.apply(each)
    return disk


def image(disk: Disk, variant: Variant, seed: int = 1) -> dict[str, bytes | None]:
    return disk.image(variant, Random(seed))


DRAFT = (call(Kind.CREATE, "/d/a"), call(Kind.WRITE, "/d/a", data=b"bytes"))


def test_nothing_is_durable_unasked() -> None:
    disk = after(*DRAFT)
    assert image(disk, Variant.STRICT) == {}
    assert image(disk, Variant.NAMES) == {"/d/a": b""}
    found = {str(image(disk, Variant.RANDOM, seed)) for seed in range(40)}
    assert found == {"{}", "{'/d/a': b''}", "{'/d/a': b'bytes'}"}


def test_bytes_are_durable_after_fsync_of_the_file_and_names_after_that_of_the_folder() -> None:
    of_file = after(*DRAFT, call(Kind.FSYNC, "/d/a"))
    assert image(of_file, Variant.STRICT) == {}
    assert image(of_file, Variant.NAMES) == {"/d/a": b"bytes"}
    of_folder = after(*DRAFT, call(Kind.FSYNC, "/d"))
    assert image(of_folder, Variant.STRICT) == {"/d/a": b""}
    both = after(*DRAFT, call(Kind.FDATASYNC, "/d/a"), call(Kind.FSYNC, "/d"))
    assert image(both, Variant.STRICT) == {"/d/a": b"bytes"}


def test_syncfs_makes_everything_durable() -> None:
    disk = after(call(Kind.MKDIR, "/d/e"), *DRAFT, call(Kind.SYNCFS, "/d"), call(Kind.UNLINK, "/d/a"))
    assert image(disk, Variant.STRICT) == {"/d/e": None, "/d/a": b"bytes"}
    assert image(disk, Variant.NAMES) == {"/d/e": None}


def test_a_renaming_is_undone_until_its_folder_is_synced() -> None:
    old = (*DRAFT, call(Kind.SYNCFS, "/d"))
    new = (
        call(Kind.CREATE, "/d/b"),
        call(Kind.WRITE, "/d/b", data=b"newer"),
        call(Kind.FSYNC, "/d/b"),
        call(Kind.RENAME, "/d/b", "/d/a"),
    )
    assert image(after(*old, *new), Variant.STRICT) == {"/d/a": b"bytes"}
    assert image(after(*old, *new), Variant.NAMES) == {"/d/a": b"newer"}
    assert image(after(*old, *new, call(Kind.FSYNC, "/d")), Variant.STRICT) == {"/d/a": b"newer"}


def test_nothing_is_left_below_a_folder_that_was_not_kept() -> None:
    calls = (
        call(Kind.MKDIR, "/d/e"),
        call(Kind.CREATE, "/d/e/a"),
        call(Kind.FSYNC, "/d/e/a"),
        call(Kind.FSYNC, "/d/e"),
    )
    assert image(after(*calls), Variant.STRICT) == {}
    assert image(after(*calls, call(Kind.FSYNC, "/d")), Variant.STRICT) == {"/d/e": None, "/d/e/a": b""}


def test_bytes_whose_sync_failed_are_not_saved_by_a_later_one() -> None:
    failed = (*DRAFT, call(Kind.FSYNC, "/d"), call(Kind.FSYNC, "/d/a", result=-1))
    again = after(*failed, call(Kind.FSYNC, "/d/a"))
    assert image(again, Variant.STRICT) == {"/d/a": bytes(5)}
    rewritten = after(*failed, call(Kind.WRITE, "/d/a", data=b"bytes"), call(Kind.FSYNC, "/d/a"))
    assert image(rewritten, Variant.STRICT) == {"/d/a": b"bytes"}


def test_a_refused_call_changes_nothing_and_a_mark_is_kept() -> None:
    disk = after(*DRAFT, call(Kind.UNLINK, "/d/a", result=-1), call(MARK, "told"))
    assert image(disk, Variant.NAMES) == {"/d/a": b""}
    assert disk.marks == ["told"]


def test_an_image_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    write_image({"/w/data/e": None, "/w/data/f/a": b"x"}, Path("/w/data"), tmp_path)
    assert (tmp_path / "e").is_dir()
    assert (tmp_path / "f/a").read_bytes() == b"x"


def test_a_missing_tool_says_how_to_get_it() -> None:
    with pytest.raises(ToolMissingError, match="apt-get install no-such-tool"):
        find_tool("no-such-tool")


def run(stage: str, world: Path) -> None:
    prepare(world)
    program = (
        "import sys; from pathlib import Path; from tests.faults.machine.syscalls.stages import STAGES; "
        "STAGES[sys.argv[1]](Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", program, stage, world], cwd=ROOT, check=True, timeout=60)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("sealed") / "world"
    run("seal", world)
    return world


def test_seal_over_files_seals_all(sealed: Path) -> None:
    assert SealJudge(sealed, None, expected_roots()).ended(0, "") == []


def test_anchor_over_files_anchors_every_version(tmp_path: Path) -> None:
    world = tmp_path / "world"
    run("anchor", world)
    assert AnchorJudge(world, None).ended(0, "") == []
    assert len((world / "outside" / "ledger.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("path", "invariant"),
    [
        ("device.events/0/tile/0/000", "publication"),
        ("device.events/0/tile/entries/002.p/9", "publication"),
        ("device.events/0/checkpoint", "going_back"),
        ("log.checkpoints/0/checkpoint", "going_back"),
    ],
)
def test_what_is_missing_is_seen(sealed: Path, path: str, invariant: str) -> None:
    base = sealed / "data" / "log"
    files = {str(file): file.read_bytes() for file in base.rglob("*") if file.is_file()}
    judge = SealJudge(sealed, None, expected_roots())
    assert judge.look_at_image(dict(files), "") == []
    del files[str(base / path)]
    assert {each.invariant for each in judge.look_at_image(dict(files), "")} == {invariant}


def test_a_changed_tile_is_seen(sealed: Path) -> None:
    def read(path: str) -> bytes | None:
        data = checks.files_below(sealed / "data" / "log" / "device.events" / "0")(path)
        return data[:-1] + bytes([data[-1] ^ 1]) if data and path == "tile/0/001" else data

    judge = SealJudge(sealed, None, expected_roots())
    found = judge.look_with(lambda place: read if place[0] == "device.events" else lambda _path: None, "")
    assert any("tile at level 0, 1 is another one" in each.what for each in found)
