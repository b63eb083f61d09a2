"""Fetching Kafka: offline, through a mirror, and from a mirror that lies."""

import functools
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.local import jars
from pipeline.local.errors import JarsUnavailableError
from pipeline.local.files import free_port


class Repository(http.server.BaseHTTPRequestHandler):
    """Serves jars by file name, as `serve` decides."""

    serve: Callable[[str], bytes | None]

    def do_GET(self) -> None:
        body = type(self).serve(self.path.rsplit("/", 1)[-1])
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def repository(serve: Callable[[str], bytes | None]) -> Iterator[str]:
    handler = type("Handler", (Repository,), {"serve": staticmethod(serve)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/maven2"
        finally:
            server.shutdown()
            thread.join()


def cached(name: str) -> bytes | None:
    path = jars.prepare(jars.default_cache_dir()) / name
    return path.read_bytes() if path.exists() else None


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_the_pinned_list_is_whole() -> None:
    names = [jar.file_name for jar in jars.pinned()]
    assert len(set(names)) == len(names) == 45
    assert f"kafka_2.13-{jars.KAFKA_VERSION}.jar" in names
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars.pinned())


def test_offline_names_what_is_missing_and_the_ways_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: None
) -> None:
    url = f"http://127.0.0.1:{free_port()}/maven2"
    monkeypatch.setenv(jars.MIRROR, url)
    with pytest.raises(JarsUnavailableError) as caught:
        jars.prepare(tmp_path)
    message = str(caught.value)
    for part in ("45 of the 45 jars", "45 MB", str(tmp_path), url, "refused", "HTTPS_PROXY", jars.MIRROR):
        assert part in message
    assert "--bootstrap-servers HOST:PORT" in message
    assert not list(tmp_path.glob("kafka-*/*.jar"))


def test_up_without_a_network_says_so_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: None
) -> None:
    monkeypatch.setenv(jars.MIRROR, f"http://127.0.0.1:{free_port()}/maven2")
    monkeypatch.setenv("ATTESTREAM_CACHE_DIR", str(tmp_path / "cache"))
    command = [sys.executable, "-m", "pipeline.cli.main", "up", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "could not be fetched" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mirror_is_used_and_an_interrupted_download_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: None
) -> None:
    asked: list[str] = []

    def serve(name: str) -> bytes | None:
        asked.append(name)
        return cached(name)

    seen: list[tuple[int, int]] = []
    with repository(serve) as url:
        monkeypatch.setenv(jars.MIRROR, url + "/")
        folder = jars.prepare(tmp_path, lambda done, total: seen.append((done, total)))
        assert jars.missing(tmp_path) == []
        total_bytes = sum(jar.size_bytes for jar in jars.pinned())
        assert seen[-1] == (total_bytes, total_bytes)
        damaged = jars.pinned()[0].file_name
        (folder / damaged).write_bytes(b"cut off")
        asked.clear()
        jars.prepare(tmp_path)
    assert [name for name in asked if name.endswith(".jar")] == [damaged]
    assert sorted(path.name for path in folder.iterdir()) == sorted(jar.file_name for jar in jars.pinned())


def test_a_jar_with_another_digest_never_reaches_the_class_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: None
) -> None:
    with repository(lambda name: b"PK a poisoned jar" if name.endswith(".jar") else None) as url:
        monkeypatch.setenv(jars.MIRROR, url)
        with pytest.raises(JarsUnavailableError, match="another SHA-256"):
            jars.prepare(tmp_path)
    assert not list(tmp_path.glob("kafka-*/*.jar"))


def test_two_processes_may_prepare_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: None
) -> None:
    asked: list[str] = []

    def serve(name: str) -> bytes | None:
        asked.append(name)
        return cached(name)

    code = "import sys, pathlib; from pipeline.local import jars; jars.prepare(pathlib.Path(sys.argv[1]))"
    with repository(serve) as url:
        monkeypatch.setenv(jars.MIRROR, url)
        both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
        assert [process.wait(120) for process in both] == [0, 0]
    fetched = [name for name in asked if name.endswith(".jar")]
    assert len(fetched) == len(set(fetched)) == 45
