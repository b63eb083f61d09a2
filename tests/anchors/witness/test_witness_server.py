"""Our witness over HTTP: as a process, killed at any moment, and with clients that mean it no good."""

import http.client
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from anchors.errors import WitnessConfigError
from anchors.witness import server
from anchors.witness.addcheckpoint import MAX_BODY_BYTES
from schemas.note import Note, parse_signatures, verify_note
from tests.kit.deployment import wait_for
from tests.kit.witnesses import TiledLog, WitnessProcess, cosigner, new_witness, served

HOST = "127.0.0.1"
LARGEST = 400


@pytest.fixture
def log() -> TiledLog:
    made = TiledLog()
    for size in (1, 5, 7):
        made.grow(size)
    return made


@pytest.fixture
def url(tmp_path: Path, log: TiledLog) -> Iterator[str]:
    with served(new_witness(tmp_path / "w.sqlite", log)) as url:
        yield url


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)


def post(url: str, body: bytes, path: str = "/add-checkpoint") -> tuple[int, bytes]:
    connection = connect(url)
    try:
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_connection_serves_many_requests(url: str, log: TiledLog) -> None:
    connection = connect(url)
    for old, size, status in [(0, 1, 200), (0, 5, 409), (1, 5, 200), (5, 7, 200)]:
        connection.request("POST", "/add-checkpoint", log.request(old, size))
        response = connection.getresponse()
        body = response.read()
        assert response.status == status
        if status == 200:
            note = Note(log.signed(size).note.text, parse_signatures(body))
            assert verify_note(note, [cosigner("w").verifier])
        else:
            assert (response.headers["Content-Type"], body) == ("text/x.tlog.size", b"1\n")
    connection.close()


def test_other_paths_and_methods(url: str, log: TiledLog) -> None:
    body = log.request(0, 1)
    for path in ("/", "/add-checkpoint/", "/x/add-checkpoint", "/add-checkpoint?x=1"):
        assert post(url, body, path)[0] == 404
    for method, path, status in [
        ("GET", "/add-checkpoint", 404),
        ("PUT", "/add-checkpoint", 405),
        ("GET", "/" + "0" * 64 + "/checkpoint", 404),
    ]:
        connection = connect(url)
        connection.request(method, path)
        assert connection.getresponse().status == status
        connection.close()
    assert post(url, body)[0] == 200


def raw(url: str, data: bytes) -> bytes:
    """What the server says to these bytes before it closes the connection."""
    with socket.create_connection((HOST, urlsplit(url).port or 0), timeout=30) as connection:
        connection.sendall(data)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"POST /add-checkpoint HTTP/1.1\r\n\r\n", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: x\r\n\r\n", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_a_bad_request_is_refused_and_the_next_is_served(
    url: str, log: TiledLog, request_head: bytes, status: int
) -> None:
    answer = raw(url, request_head)
    assert b" %d " % status in answer.split(b"\r\n")[0] or (status == 400 and b"Bad request" in answer)
    assert post(url, log.request(0, 1))[0] == 200


def test_clients_that_dawdle_are_let_go(
    tmp_path: Path, log: TiledLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.4)
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    with served(new_witness(tmp_path / "w.sqlite", log)) as url:
        port = urlsplit(url).port or 0
        held = [socket.create_connection((HOST, port), timeout=30) for _ in range(2)]
        head = b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 60000\r\n\r\n"
        stop = threading.Event()

        def trickle(connection: socket.socket) -> None:
            # Each byte alone would keep a time-out of the socket from ever running out.
            for byte in head + bytes(60000):
                try:
                    connection.send(bytes([byte]))
                except OSError:
                    return
                if stop.wait(0.05):
                    return

        threads = [threading.Thread(target=trickle, args=(each,)) for each in held]
        for thread in threads:
            thread.start()
        assert post(url, log.request(0, 1))[0] == 200
        stop.set()
        for thread in threads:
            thread.join()
        for each in held:
            each.close()


def test_a_port_in_use_is_told(url: str, tmp_path: Path, log: TiledLog) -> None:
    with pytest.raises(WitnessConfigError, match="cannot be listened on"):
        server.serve(new_witness(tmp_path / "v.sqlite", log), port=urlsplit(url).port or 0)


@pytest.mark.timeout(120)
def test_killed_at_any_moment_it_never_cosigns_a_fork(tmp_path: Path) -> None:
    """Two submitters push two histories of one log; whenever it is killed, one history alone is cosigned."""
    honest, fork = TiledLog(), TiledLog()
    for size in range(1, LARGEST + 1):
        if size == 4:
            fork.text = "fork"
        honest.grow(size)
        fork.grow(size)
    process = WitnessProcess(tmp_path, "w", str(honest.signer.verifier))
    url = process.start()
    cosigned: list[tuple[int, bytes]] = []
    stop = threading.Event()

    def submit(which: TiledLog, seed: int) -> None:
        chance = random.Random(seed)
        known = 0
        while not stop.is_set():
            size = min(max(known, 1) + chance.randrange(3), LARGEST)
            old = chance.choice([known, known, 0, max(0, size - 1)])
            try:
                status, body = post(url, which.request(min(old, size), size))
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
                continue
            if status == 200:
                text = which.signed(size).note.text
                assert verify_note(Note(text, parse_signatures(body)), [cosigner("w").verifier])
                cosigned.append((size, which.signed(size).checkpoint.root))
                known = size
            elif status == 409:
                known = min(int(body), LARGEST)
            else:
                assert status in (422, 503), (status, body)
                time.sleep(0.001)

    threads = [threading.Thread(target=submit, args=(which, n)) for n, which in enumerate((honest, fork))]
    for thread in threads:
        thread.start()
    chance = random.Random(7)
    try:
        for _ in range(6):
            # Killed only once it has cosigned something since the last time.
            before = len(cosigned)
            wait_for(lambda before=before: len(cosigned) > before + chance.randrange(20), "it cosigns on")  # type: ignore[misc]
            process.kill()
            process.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        code = process.stop()
    assert code == 0
    roots: dict[int, set[bytes]] = {}
    for size, root in cosigned:
        roots.setdefault(size, set()).add(root)
    beyond = [size for size in roots if size > 3]
    assert beyond
    assert all(len(found) == 1 for found in roots.values())
    histories = {
        which.text
        for size in beyond
        for which in (honest, fork)
        if roots[size] == {which.signed(size).checkpoint.root}
    }
    assert len(histories) == 1
    # What was told is never more than what is remembered.
    again = new_witness(tmp_path / "w.sqlite", honest)
    remembered = again._memory.all()[honest.origin]
    assert remembered.size >= max(roots)
