"""`attestream witness` as an operator types it."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anchors.witness.client import Submission, WitnessClient
from pipeline.cli.witness import _address, _logs
from pipeline.settings import Settings, UsageError
from pipeline.trust import init_local, log_identity
from schemas.note import parse_vkey
from schemas.witnesspolicy import parse_policy
from tests.kit.deployment import wait_for
from tests.kit.witnesses import TiledLog

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "pipeline.cli.main", "witness")
NAME = "witness.hospital.example"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_key_is_made_once_and_a_witness_serves_with_it(tmp_path: Path) -> None:
    key_file = tmp_path / "keys" / "witness.key.json"
    made = run("key", "--key", str(key_file), "--name", NAME)
    assert (made.returncode, made.stderr) == (0, "")
    assert parse_vkey(made.stdout.strip()).name == NAME
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert run("key", "--key", str(key_file), "--name", NAME).stdout == made.stdout
    log = TiledLog()
    log.grow(5)
    output = tmp_path / "out"
    arguments = [
        "--key",
        str(key_file),
        "--db",
        str(tmp_path / "w.sqlite"),
        "--log",
        str(log.signer.verifier),
    ]
    with output.open("wb") as out:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        child = subprocess.Popen(
            [*COMMAND, "serve", *arguments], env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: "its memory is new" in output.read_text(), "it is ready")
        # What it says is the line of a policy.
        line = output.read_text().splitlines()[0]
        witness = parse_policy(f"{line}\nquorum {NAME}\n").witnesses[0]
        assert str(witness.key) == made.stdout.strip()
        assert (
            WitnessClient(witness)
            .cosign(Submission(log.signed(5), log.prove(5)), 0, time.monotonic() + 30)
            .time_s
            > 0
        )
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    finally:
        if child.poll() is None:
            child.kill()
        child.wait(30)
    assert "cosigned" in output.read_text()


def test_what_is_asked_for_wrongly_is_told_in_a_line(tmp_path: Path) -> None:
    key_file = tmp_path / "witness.key.json"
    assert run("key", "--key", str(key_file), "--name", "two words").returncode == 2
    assert not key_file.exists()
    assert run("key", "--key", str(key_file), "--name", NAME).returncode == 0
    other = run("key", "--key", str(key_file), "--name", "other.example")
    assert (other.returncode, "is the key of witness.hospital.example" in other.stderr) == (2, True)
    log = str(TiledLog().signer.verifier)
    database = str(tmp_path / "w.sqlite")
    key_file.chmod(0o640)
    shown = run("serve", "--key", str(key_file), "--db", database, "--log", log)
    assert (shown.returncode, "must be 0600" in shown.stderr) == (2, True)
    key_file.chmod(0o600)
    (tmp_path / "w.sqlite").write_bytes(b"another file" * 1000)
    shown = run("serve", "--key", str(key_file), "--db", database, "--log", log)
    assert (shown.returncode, "w.sqlite" in shown.stderr) == (1, True)
    assert "Traceback" not in shown.stderr


def test_a_log_tells_its_key(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    init_local(settings)
    shown = run("log-key", "--data-dir", str(tmp_path))
    known = _logs([shown.stdout.strip()])[0]
    assert (known.origin, known.key.public_key) == (settings.log_name, log_identity(settings).public_key)


def test_logs_and_addresses() -> None:
    verifier = TiledLog().signer.verifier
    both = _logs([str(verifier), f"{verifier}=other.example/log=1"])
    assert [each.origin for each in both] == ["ward.example", "other.example/log=1"]
    assert all(each.key == verifier for each in both)
    for text in (
        "",
        "x",
        f"{verifier}=",
        f"{verifier} ",
        str(verifier)[:-1],
        str(verifier).replace("+", "+0", 1),
    ):
        with pytest.raises(UsageError, match="--log"):
            _logs([text])
    assert _address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert _address("[::1]:7380") == ("::1", 7380)
    assert _address("witness.internal:7380") == ("witness.internal", 7380)
    for text in ("7380", ":7380", "::1:7380", "a:b", "127.0.0.1:65536", "127.0.0.1:-1"):
        with pytest.raises(UsageError, match="not HOST:PORT"):
            _address(text)
