"""A published log as a stranger gets it, in a folder or from a web server: whoever changes it is found."""

import base64
import functools
import http.server
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from pipeline import logsource
from pipeline.believed import EPOCH_PATH, Believed
from pipeline.cli.main import build, main
from pipeline.fsck import Report, checkpoints, fsck
from pipeline.logsource import LogSourceError, open_source
from pipeline.settings import UsageError
from pipeline.shardabout import ShardAbout
from pipeline.shardlist import shard_list, shard_list_name
from pipeline.workers import in_order
from processors.merkle.fsck import Fault, FaultKind
from schemas.note import ED25519, Ed25519Signer, VerifierKey
from tests.kit.parties import LOG, TRUST, key_of, seed_of
from tests.kit.publishedlog import checkpoint, leaves, published, write

BELIEVED = Believed.from_trust(TRUST)
VKEY = str(VerifierKey(LOG, ED25519, key_of("log")))
SHARDS = {"device.events/0": 700, "device.events/1": 3, "device.rejected/0": 1}


def origin_of(path: str) -> str:
    return f"{LOG}/{path}"


def state_of(path: str, size: int) -> bytes:
    """A shard's checkpoint when it had so many leaves."""
    return published(leaves(size), origin_of(path))["checkpoint"]


def epoch_entries(listed: tuple[str, ...] = (*SHARDS, "alerts/0")) -> list[bytes]:
    """A list of the shards, and each shard twice: half grown, and as it is."""
    ids = {path.split("/")[0]: "topic-id" for path in listed}
    origins = {(path.split("/")[0], int(path.split("/")[1])): origin_of(path) for path in listed}
    return [
        shard_list(Ed25519Signer.from_seed(f"{LOG}/shards", seed_of("log")), ids, origins),
        *(state_of(path, (size + 1) // 2) for path, size in SHARDS.items()),
        *(state_of(path, size) for path, size in SHARDS.items()),
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of three shards and their epoch log."""
    for path, size in SHARDS.items():
        write(published(leaves(size), origin_of(path)), tmp_path / path)
    write(published(epoch_entries(), LOG), tmp_path / EPOCH_PATH)
    return tmp_path


def publish_epoch(root: Path, entries: list[bytes]) -> None:
    write(published(entries, LOG), root / EPOCH_PATH)


def faults_of(report: Report) -> list[tuple[str, Fault]]:
    return [(log.path, fault) for log in report.logs for fault in log.faults]


def only_fault(report: Report) -> tuple[str, Fault]:
    [found] = faults_of(report)
    return found


@contextmanager
def serving(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass


# ---- what is published -----------------------------------------------------------------------------------


def test_whole_log_holds_and_shards_without_leaves_are_none(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = fsck(str(root), BELIEVED, on_progress=lambda done, known: seen.append((done, known)))
    assert report.holds
    assert [(log.path, log.size, log.recorded) for log in report.logs] == [
        (EPOCH_PATH, 7, None),
        *((path, size, size) for path, size in sorted(SHARDS.items())),
    ]
    assert seen[-1] == (711, 711)


def test_one_shard_by_itself(root: Path) -> None:
    folder = str(root / "device.events/0")
    assert fsck(folder, BELIEVED).holds
    assert fsck(folder, BELIEVED, origin=origin_of("device.events/0")).holds
    assert fsck(folder, Believed.from_vkey(VKEY)).holds
    assert not fsck(folder, BELIEVED, origin=origin_of("device.events/1")).holds


def test_epoch_log_by_itself(root: Path) -> None:
    assert fsck(str(root / EPOCH_PATH), BELIEVED).holds


def test_log_over_http(root: Path) -> None:
    with serving(functools.partial(Quiet, directory=str(root))) as url:
        report = fsck(url, BELIEVED)
        assert report.holds
        assert [log.path for log in report.logs] == [EPOCH_PATH, *sorted(SHARDS)]
        tile = root / "device.events/0/tile/0/001"
        tile.write_bytes(bytes(8192))
        path, fault = only_fault(fsck(url + "/", BELIEVED, jobs=2))
        assert (path, fault.path, fault.index) == ("device.events/0", "tile/0/001", 256)


def test_several_processes_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.fsck.LEAVES_A_WORKER", 1)
    files = published(leaves(150_000), origin_of("device.events/0"))
    for path in ("tile/entries/200", "tile/entries/400", "tile/0/100", "tile/1/001"):
        files[path] = files[path][:-1] + bytes([files[path][-1] ^ 1])
    folder = str(write(files, tmp_path))
    alone, together = fsck(folder, BELIEVED), fsck(folder, BELIEVED, jobs=2)
    assert [(f.path, f.kind) for f in alone.logs[0].faults] == [
        ("tile/0/100", FaultKind.TILE),
        ("tile/entries/200", FaultKind.ENTRY),
        # It is the only witness of what lies below, so it stands for the changed bundle 400 too.
        ("tile/1/001", FaultKind.TILE),
    ]
    assert faults_of(alone) == faults_of(together)


# ---- cheats ----------------------------------------------------------------------------------------------


def test_checkpoint_signed_by_another_key(root: Path) -> None:
    write(published(leaves(3), origin_of("device.events/1"), key="mallory"), root / "device.events/1")
    path, fault = only_fault(fsck(str(root), BELIEVED))
    assert (path, fault.path, fault.kind) == ("device.events/1", "checkpoint", FaultKind.CHECKPOINT)


def test_checkpoint_with_a_wrong_signature(root: Path) -> None:
    file = root / "device.events/1/checkpoint"
    head, _, line = file.read_bytes().rpartition(b" ")
    signature = bytearray(base64.b64decode(line))
    signature[20] ^= 1
    file.write_bytes(head + b" " + base64.b64encode(signature) + b"\n")
    path, fault = only_fault(fsck(str(root), BELIEVED))
    assert (path, fault.kind) == ("device.events/1", FaultKind.CHECKPOINT)
    assert "does not fit" in fault.reason


def test_signed_checkpoint_of_a_wrong_root(root: Path) -> None:
    (root / "device.events/1/checkpoint").write_bytes(checkpoint(origin_of("device.events/1"), 3, bytes(32)))
    path, fault = only_fault(fsck(str(root), BELIEVED))
    assert (path, fault.path, fault.kind) == ("device.events/1", "checkpoint", FaultKind.CHECKPOINT)
    assert "root" in fault.reason


def test_shard_in_the_place_of_another(root: Path) -> None:
    write(published(leaves(3), origin_of("device.events/0")), root / "device.events/1")
    path, fault = only_fault(fsck(str(root), BELIEVED))
    assert (path, fault.kind) == ("device.events/1", FaultKind.CHECKPOINT)


def test_shard_left_out(root: Path) -> None:
    (root / "device.rejected/0/checkpoint").unlink()
    path, fault = only_fault(fsck(str(root), BELIEVED))
    assert (path, fault.path) == ("device.rejected/0", "checkpoint")
    assert "is missing" in fault.reason


def test_epoch_log_left_out(root: Path) -> None:
    (root / EPOCH_PATH / "checkpoint").unlink()
    report = fsck(str(root), BELIEVED)
    path, fault = only_fault(report)
    assert (path, fault.path) == (EPOCH_PATH, "checkpoint")
    assert len(report.logs) == 4


def test_shard_cut_off_and_signed_again(root: Path) -> None:
    write(published(leaves(600), origin_of("device.events/0")), root / "device.events/0")
    path, fault = only_fault(fsck(str(root), BELIEVED))
    assert (path, fault.index, fault.kind) == (EPOCH_PATH, 4, FaultKind.ORDER)
    assert "cut off" in fault.reason


def test_shard_rewritten_as_a_whole_and_signed_again(root: Path) -> None:
    write(published(leaves(900, seed=7), origin_of("device.events/0")), root / "device.events/0")
    found = faults_of(fsck(str(root), BELIEVED))
    assert [(path, fault.index) for path, fault in found] == [(EPOCH_PATH, 1), (EPOCH_PATH, 4)]
    assert all("fork" in fault.reason for _, fault in found)


def test_unsigned_checkpoint_in_the_epoch_log(root: Path) -> None:
    forged = checkpoint(origin_of("device.events/1"), 3, bytes(32), key="mallory")
    publish_epoch(root, [*epoch_entries(), forged])
    path, fault = only_fault(fsck(str(root), BELIEVED))
    assert (path, fault.index, fault.kind) == (EPOCH_PATH, 7, FaultKind.ORDER)


def test_foreign_words_in_the_epoch_log_prove_nothing_and_harm_nobody(root: Path) -> None:
    publish_epoch(root, [*epoch_entries(), b"", b"hello", checkpoint("other.example/x/0", 3, bytes(32))])
    report = fsck(str(root), BELIEVED)
    assert report.holds
    assert report.foreign == 3


def test_old_checkpoint_said_again_is_harmless_only_where_the_shard_shows_it(root: Path) -> None:
    publish_epoch(root, [*epoch_entries(), state_of("device.events/0", 20)])
    assert fsck(str(root), BELIEVED).holds
    path, fault = only_fault(fsck(str(root / EPOCH_PATH), BELIEVED))
    assert (path, fault.index) == ("", 7)
    assert "goes back" in fault.reason


def test_two_roots_of_one_size_in_the_epoch_log(root: Path) -> None:
    publish_epoch(root, [*epoch_entries(), checkpoint(origin_of("device.events/1"), 3, bytes(32))])
    _, fault = only_fault(fsck(str(root / EPOCH_PATH), BELIEVED))
    assert fault.index == 7
    assert "fork" in fault.reason


def test_earlier_log_key_is_believed_if_it_is_listed(root: Path) -> None:
    write(published(leaves(3), origin_of("device.events/1"), key="old"), root / "device.events/1")
    assert not fsck(str(root), BELIEVED).holds
    assert fsck(str(root), Believed(LOG, (key_of("log"), key_of("old")))).holds


def test_checkpoints_alone(root: Path) -> None:
    (root / "device.events/0/tile/0/001").write_bytes(b"")
    (root / "device.events/1/checkpoint").write_bytes(b"nonsense")
    found = {log.path: (log.size, bool(log.faults)) for log in checkpoints(str(root), BELIEVED)}
    assert found[EPOCH_PATH] == (7, False)
    assert found["device.events/0"] == (700, False)
    assert found["device.events/1"] == (0, True)


# ---- shards that follow closed ones ----------------------------------------------------------------------


PATH = "device.events/0"


def replaced(root: Path, *, is_listed: bool = True, size: int = 20) -> None:
    """Close a shard of 700 leaves as `log accept-shard` does; another one begins on the topic's rest."""
    closed = root / "closed" / PATH / "topic-id"
    closed.parent.mkdir(parents=True)
    (root / PATH).rename(closed)
    write(published(leaves(size, first_offset=1400, seed=3), origin_of(PATH)), root / PATH)
    about = ShardAbout("device.events", 0, "topic-id")
    (closed / "shard.json").write_bytes(about.encode())
    (root / PATH / "shard.json").write_bytes(about.successor("topic-id", 1400).encode())
    entries = [*epoch_entries(), published(leaves(5, 1400, 3), origin_of(PATH))["checkpoint"]]
    if is_listed:
        signer = Ed25519Signer.from_seed(shard_list_name(LOG), seed_of("log"))
        place = ("device.events", 0)
        entries.append(
            shard_list(signer, {"device.events": "topic-id"}, {place: origin_of(PATH)}, {place: "topic-id.1"})
        )
    publish_epoch(root, entries)


def test_shard_that_follows_a_closed_one_in_public(root: Path) -> None:
    replaced(root)
    report = fsck(str(root), BELIEVED)
    assert faults_of(report) == []
    [new, old] = [log for log in report.logs if log.origin == origin_of(PATH)]
    assert (new.size, new.recorded, new.is_closed) == (20, 5, False)
    assert (old.path, old.size, old.is_closed) == (f"closed/{PATH}/topic-id", 700, True)
    assert fsck(str(root / EPOCH_PATH), BELIEVED).holds
    code, output = run("fsck", str(root), "--log-key", VKEY)
    assert code == 0
    assert "closed: another shard took its place" in output


def test_shard_that_follows_a_closed_one_in_secret(root: Path) -> None:
    replaced(root, is_listed=False)
    path, fault = only_fault(fsck(str(root), BELIEVED))
    assert (path, fault.path) == (PATH, "checkpoint")
    assert "topic-id.1" in fault.reason
    assert not fsck(str(root / EPOCH_PATH), BELIEVED).holds


def test_closed_shard_that_is_changed_or_gone(root: Path) -> None:
    replaced(root)
    closed = root / "closed" / PATH / "topic-id"
    (closed / "tile/0/001").write_bytes(bytes(8192))
    path, fault = only_fault(fsck(str(root), BELIEVED))
    assert (path, fault.path) == (f"closed/{PATH}/topic-id", "tile/0/001")
    (closed / "checkpoint").unlink()
    found = faults_of(fsck(str(root), BELIEVED))
    assert [(path, fault.index) for path, fault in found] == [(EPOCH_PATH, 1), (EPOCH_PATH, 4)]


def test_shards_that_say_they_follow_each_other_end_the_search(root: Path) -> None:
    replaced(root)
    closed = root / "closed" / PATH / "topic-id"
    about = replace(ShardAbout("device.events", 0, "topic-id"), predecessor="topic-id")
    (closed / "shard.json").write_bytes(about.encode())
    assert fsck(str(root), BELIEVED).holds


# ---- sources ---------------------------------------------------------------------------------------------


def test_no_log_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no log is published"):
        fsck(str(tmp_path), BELIEVED)
    with pytest.raises(UsageError, match="single log"):
        fsck(str(tmp_path), BELIEVED, origin=LOG)
    with pytest.raises(UsageError, match="folder or an http"):
        open_source("ftp://127.0.0.1/")
    with pytest.raises(UsageError, match="--log-key"):
        Believed.from_vkey("a+b+c")


def test_passing_trouble_of_a_server_is_waited_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logsource, "FIRST_PAUSE_S", 0.0)
    refused: set[str] = set()

    class Moody(Quiet):
        def do_GET(self) -> None:
            if self.path not in refused:
                refused.add(self.path)
                self.send_error(503)
            elif self.path + "#" not in refused:
                refused.add(self.path + "#")
                self.send_response(200)
                self.send_header("Content-Length", "100000")
                self.end_headers()
                self.wfile.write(b"cut off")
            else:
                super().do_GET()

    with serving(functools.partial(Moody, directory=str(root))) as url:
        assert fsck(url, BELIEVED).holds


def test_server_that_stays_in_trouble_or_lies_about_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logsource, "FIRST_PAUSE_S", 0.0)

    class Broken(Quiet):
        def do_GET(self) -> None:
            if self.path.startswith("/busy"):
                self.send_error(500)
            elif self.path.startswith("/forbidden"):
                self.send_error(403)
            elif self.path.startswith("/endless"):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(bytes(2_000_000))
            else:
                self.send_error(404)

    with serving(Broken) as url:
        with pytest.raises(LogSourceError, match="500"):
            open_source(f"{url}/busy").read("checkpoint")
        with pytest.raises(LogSourceError, match="403"):
            open_source(f"{url}/forbidden").read("checkpoint")
        assert open_source(f"{url}/nowhere").read("checkpoint") is None
        assert len(open_source(f"{url}/endless").read("tile/0/000") or b"") == 8193
    with pytest.raises(LogSourceError, match="cannot read"):
        open_source(url).read("checkpoint")


def test_larger_files_than_a_log_may_hold_are_not_read_whole(tmp_path: Path) -> None:
    write({"tile/0/000": bytes(1_000_000)}, tmp_path)
    assert len(open_source(str(tmp_path)).read("tile/0/000") or b"") == 8193


# ---- workers ---------------------------------------------------------------------------------------------


def test_results_come_in_order_and_tasks_are_asked_for_as_they_are_needed() -> None:
    asked: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(40):
            asked.append(number)
            yield -number

    results = in_order(abs, tasks(), 2)
    assert next(results) == 0
    assert len(asked) <= 5
    assert list(results) == list(range(1, 40))


def test_what_a_worker_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(in_order(int, ["1", "x", "2"], 2))


def _parent(children: "multiprocessing.Queue[int]") -> None:
    for pid in in_order(_report_pid, range(1000), 2):
        children.put(pid)


def _report_pid(_task: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def test_workers_end_with_a_killed_parent() -> None:
    context = multiprocessing.get_context("spawn")
    children: multiprocessing.Queue[int] = context.Queue()
    parent = context.Process(target=_parent, args=(children,))
    parent.start()
    assert parent.pid is not None
    workers = [psutil.Process(children.get(timeout=60)) for _ in range(2)]
    os.kill(parent.pid, signal.SIGKILL)
    parent.join(30)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    parent.close()


# ---- the command -----------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(build("log"), ["log", *arguments])
    return result.exit_code, result.stdout


def test_command_says_what_holds_and_what_does_not(root: Path) -> None:
    code, output = run("fsck", str(root), "--log-key", VKEY)
    assert code == 0
    assert "4 trees, 711 leaves" in output
    (root / "device.events/0/tile/0/001").write_bytes(bytes(8192))
    code, output = run("fsck", str(root), "--log-key", VKEY)
    assert code == 1
    assert "device.events/0/tile/0/001, leaf 256" in output
    assert "does NOT hold" in output


def test_command_speaks_json(root: Path, tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    trust.write_text(TRUST.to_json())
    (root / "device.events/0/tile/entries/002.p/188").write_bytes(b"")
    code, output = run("fsck", str(root), "--trust", str(trust), "--json")
    assert code == 1
    found = json.loads(output)
    assert found["holds"] is False
    [log] = [log for log in found["logs"] if log["faults"]]
    assert log["path"] == "device.events/0"
    [fault] = log["faults"]
    assert (fault["index"], fault["path"], fault["kind"]) == (512, "tile/entries/002.p/188", "entry")


def test_command_prints_checkpoints(root: Path) -> None:
    code, output = run("checkpoint", str(root), "--log-key", VKEY)
    assert code == 0
    assert f"{LOG}: 7 leaves, root " in output
    code, output = run("checkpoint", str(root), "--log-key", VKEY, "--topic", "device.events", "--json")
    assert code == 0
    assert [each["size"] for each in json.loads(output)["checkpoints"]] == [700, 3]
    (root / "device.events/1/checkpoint").write_bytes(b"nonsense")
    code, _ = run("checkpoint", str(root), "--log-key", VKEY, "--topic", "device.events", "--partition", "1")
    assert code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("fsck", "nowhere", "--log-key", VKEY),
        ("fsck", ".", "--trust", "nowhere.json"),
        ("fsck", ".", "--log-key", VKEY, "--trust", "x"),
        ("fsck", ".", "--log-key", "x"),
        ("checkpoint", "nowhere", "--log-key", VKEY),
    ],
)
def test_what_cannot_be_checked_ends_with_2(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["attestream", "log", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("attestream: ")
