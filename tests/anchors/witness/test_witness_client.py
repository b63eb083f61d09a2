"""Asking witnesses: real processes of ours, and others that are down, behind, hanging or lying."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from anchors.errors import (
    WitnessAnswerError,
    WitnessConfigError,
    WitnessConflictError,
    WitnessRefusedError,
    WitnessUnavailableError,
)
from anchors.witness import client as client_module
from anchors.witness.client import MAX_ANSWER_BYTES, Submission, WitnessClient, WitnessWord
from anchors.witness.panel import PanelResult, WitnessPanel
from schemas.note import format_signatures
from schemas.witnesspolicy import PolicyWitness, WitnessPolicy
from tests.kit.witnesses import (
    Reply,
    TiledLog,
    WitnessProcess,
    answering,
    checkpoint_of,
    cosignature,
    cosigner,
    hangs,
    new_witness,
    policy_of,
    served,
    talking,
)

NOBODY = "http://127.0.0.1:1"
TEXT = "text/plain"
SIZE = "text/x.tlog.size"


@pytest.fixture
def log() -> TiledLog:
    made = TiledLog()
    for size in (3, 5, 7, 600):
        made.grow(size)
    return made


def cosign(
    log: TiledLog, url: str, size: int = 7, known_size: int = 0, name: str = "w", wait_s: float = 30
) -> WitnessWord:
    asked = WitnessClient(PolicyWitness(name, cosigner(name).verifier, url))
    submission = Submission(log.signed(size), log.prove(size))
    return asked.cosign(submission, known_size, time.monotonic() + wait_s)


def ask(
    policy: WitnessPolicy, log: TiledLog, size: int, known: dict[str, int] | None = None, wait_s: float = 30
) -> PanelResult:
    return WitnessPanel(policy, known or {}).ask(log.signed(size), log.prove(size), wait_s)


def signs(text: str | None = None, ago_s: int = 0, name: str = "w") -> Reply:
    """Cosigns what it is given, or another text."""

    def reply(body: bytes) -> tuple[int, str, bytes]:
        signature = cosignature(name, text or checkpoint_of(body).text, int(time.time()) - ago_s)
        return 200, TEXT, format_signatures([signature])

    return reply


def says(status: int, body: bytes, content_type: str = TEXT) -> Reply:
    return lambda _: (status, content_type, body)


# ---- real witnesses --------------------------------------------------------------------------------------


@pytest.fixture
def processes(tmp_path: Path, log: TiledLog) -> Iterator[list[WitnessProcess]]:
    made = [WitnessProcess(tmp_path, name, str(log.signer.verifier)) for name in "abc"]
    yield made
    for each in made:
        each.kill()


def test_two_of_three_processes_are_enough(processes: list[WitnessProcess], log: TiledLog) -> None:
    urls: dict[str, str | None] = {each.name: each.start() for each in processes}
    policy = policy_of(urls, "2")
    panel = WitnessPanel(policy, {})
    for size in (3, 5):
        result = panel.ask(log.signed(size), log.prove(size), 30)
        assert (result.is_quorum, dict(result.failures)) == (True, {})
        assert [each.witness.name for each in policy.cosignatures(result.signed.note)] == ["a", "b", "c"]
    assert set(panel.known_sizes.values()) == {5}
    processes[1].kill()
    # A panel that was told nothing learns the sizes from the witnesses.
    fresh = WitnessPanel(policy, {})
    result = fresh.ask(log.signed(7), log.prove(7), 1)
    assert result.is_quorum
    assert [each.witness.name for each in result.words] == ["a", "c"]
    assert set(result.failures) == {"b"}
    processes[0].kill()
    result = fresh.ask(log.signed(600), log.prove(600), 1)
    assert not result.is_quorum
    assert [each.witness.name for each in policy.cosignatures(result.signed.note)] == ["c"]
    for each in processes[:2]:
        each.start()
    # One is behind by 5, one by 7, and both are told wrong sizes.
    known = {str(cosigner("a").verifier): 600, str(cosigner("b").verifier): 3}
    result = ask(policy, log, 600, known)
    assert [each.witness.name for each in result.words] == ["a", "b", "c"]


def test_a_restarted_witness_goes_on_from_its_memory(processes: list[WitnessProcess], log: TiledLog) -> None:
    url = processes[0].start()
    cosign(log, url, 5, name="a")
    processes[0].kill()
    assert processes[0].start() == url
    fork = TiledLog(text="fork")
    for size in (5, 7):
        fork.grow(size)
    with pytest.raises(WitnessConflictError, match="knows 5 leaves that are not the first of these 5"):
        cosign(fork, url, 5, name="a")
    with pytest.raises(WitnessConflictError, match="knows 5 leaves that are not the first of these 7"):
        cosign(fork, url, 7, name="a")
    cosign(log, url, 7, name="a")


# ---- one witness at a time -------------------------------------------------------------------------------


def test_a_witness_that_is_behind_is_brought_up(tmp_path: Path, log: TiledLog) -> None:
    with served(new_witness(tmp_path / "w.sqlite", log)) as url:
        cosign(log, url, 3)
        assert cosign(log, url, 600, known_size=7).witness.name == "w"
        with pytest.raises(WitnessConflictError, match="600 leaves, more than these 7"):
            cosign(log, url, 7)


def test_a_witness_that_does_not_know_the_log_refuses(tmp_path: Path, log: TiledLog) -> None:
    with served(new_witness(tmp_path / "w.sqlite", TiledLog(origin="other.example"))) as url:
        with pytest.raises(WitnessRefusedError, match="not known here") as raised:
            cosign(log, url)
        assert raised.value.status == 404


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (signs(text="ward.example\n7\nanother\n"), "does not fit"),
        (signs(ago_s=3600), r"-36\d\d s from now"),
        (signs(ago_s=-3600), r"\+3[56]\d\d s from now"),
        (signs(name="other"), "no trusted key"),
        (says(200, b""), "no cosignature of its own"),
        (says(200, b"<html>\n"), "no cosignature of its own"),
        (says(200, "— w.example AAAA\n".encode()), "holds no signature"),
        (says(200, b"\xff\n" * 9), "UTF-8"),
        (says(200, b"x" * (MAX_ANSWER_BYTES + 1)), "more than 65536 bytes"),
        (says(200, "— w.example AAAAAAA=\n".encode() * 1000), "more than 100"),
        (says(409, b"7\n", SIZE), "does not take|another root"),
        (says(409, b"9223372036854775808\n", SIZE), "no tree size"),
        (says(409, b"7", SIZE), "newline"),
        (says(409, b"-1\n", SIZE), "no tree size"),
        (says(409, b"0\n", SIZE), "does not take 0 leaves"),
    ],
)
def test_a_lie_does_not_count(log: TiledLog, reply: Reply, what: str) -> None:
    with answering(reply) as url, pytest.raises((WitnessAnswerError, WitnessConflictError), match=what):
        cosign(log, url)


def test_a_cosignature_of_another_root_does_not_count(log: TiledLog) -> None:
    fork = TiledLog(text="fork")
    with (
        answering(signs(text=fork.grow(7).note.text)) as url,
        pytest.raises(WitnessAnswerError, match="does not fit"),
    ):
        cosign(log, url)


def test_further_signatures_are_left_behind(log: TiledLog) -> None:
    def reply(body: bytes) -> tuple[int, str, bytes]:
        text = checkpoint_of(body).text
        names = ["other", "w", "w", "third"]
        return 200, TEXT, format_signatures([cosignature(n, text, int(time.time())) for n in names])

    with answering(reply) as url:
        result = ask(policy_of({"w": url}, "all"), log, 7)
    assert [each.name for each in result.signed.note.signatures] == ["ward.example", "w.example"]


@pytest.mark.parametrize("status", [400, 403, 404, 410, 422])
def test_a_refusal_is_final(log: TiledLog, status: int) -> None:
    with answering(says(status, b"no \x1b[31mway\n")) as url, pytest.raises(WitnessRefusedError) as raised:
        cosign(log, url)
    assert raised.value.status == status
    assert "\x1b" not in str(raised.value)


def test_a_conflict_without_a_size_is_told(log: TiledLog) -> None:
    with answering(says(409, b"no\n")) as url, pytest.raises(WitnessConflictError, match="knows 5 leaves"):
        cosign(log, url, known_size=5)


def test_a_redirection_is_not_followed(tmp_path: Path, log: TiledLog) -> None:
    with (
        served(new_witness(tmp_path / "w.sqlite", log)) as there,
        answering(says(307, b""), {"Location": f"{there}/add-checkpoint"}) as url,
        pytest.raises(WitnessRefusedError, match="redirects"),
    ):
        cosign(log, url)


def test_a_size_that_changes_each_time_ends(log: TiledLog) -> None:
    sizes = iter([b"3\n", b"5\n", b"3\n", b"5\n"] * 100)
    with (
        answering(lambda _: (409, SIZE, next(sizes))) as url,
        pytest.raises(WitnessUnavailableError, match="another size"),
    ):
        cosign(log, url, wait_s=0.5)


def test_a_witness_that_recovers_in_time_counts(log: TiledLog) -> None:
    tries = iter([503, 429, 500])

    def reply(body: bytes) -> tuple[int, str, bytes]:
        status = next(tries, None)
        return (status, TEXT, b"later\n") if status else signs()(body)

    with answering(reply) as url:
        assert cosign(log, url).witness.name == "w"
    with pytest.raises(WitnessUnavailableError, match="does not answer"):
        cosign(log, NOBODY, wait_s=0.3)


def closes(connection: socket.socket) -> None:
    connection.close()


def trickles(start: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(start)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        hangs,
        closes,
        trickles(b""),
        trickles(b"HTTP/1.1 200 OK\r\nA: "),
        trickles(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"),
        trickles(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"),
    ],
    ids=["hangs", "closes", "status", "header", "body", "chunk"],
)
def test_a_witness_that_dawdles_is_given_up(
    log: TiledLog, talk: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_S", 9.0)
    with talking(talk) as url, pytest.raises(WitnessUnavailableError, match="does not answer"):
        cosign(log, url, wait_s=0.5)


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "ftp://w.example",
        "w.example",
        "http://",
        "https://u:p@w.example",
        "http://w/?q",
        "http://w /",
    ],
)
def test_an_address_that_is_none_is_told(url: str | None) -> None:
    with pytest.raises(WitnessConfigError, match="no URL to submit to"):
        WitnessClient(PolicyWitness("w", cosigner("w").verifier, url))


# ---- all at once -----------------------------------------------------------------------------------------


def test_a_quorum_of_the_honest_ones_is_found(tmp_path: Path, log: TiledLog) -> None:
    """Seven of nine do harm in seven ways; the two others are enough for a policy of two."""
    with ExitStack() as stack:
        enter = stack.enter_context
        urls: dict[str, str | None] = {
            "good": enter(served(new_witness(tmp_path / "good.sqlite", log, "good"))),
            "down": NOBODY,
            "hangs": enter(talking(hangs)),
            "old": enter(answering(signs(ago_s=86400, name="old"))),
            "forger": enter(answering(signs(name="other"))),
            "forker": enter(answering(signs(text="ward.example\n7\nx\n", name="forker"))),
            "junk": enter(answering(says(200, b"junk"))),
            "behind": enter(served(new_witness(tmp_path / "behind.sqlite", log, "behind"))),
            "offline": None,
        }
        cosign(log, urls["behind"] or "", 3, name="behind")
        policy = policy_of(urls, "2")
        panel = WitnessPanel(policy, {})
        result = panel.ask(log.signed(600), log.prove(600), 5)
        assert result.is_quorum
        assert [each.witness.name for each in result.words] == ["good", "behind"]
        assert {"old", "forger", "forker", "junk"} <= set(result.failures)
        assert result.failures["hangs"] == "no answer yet"
        # One that still hangs gets no second thread.
        again = panel.ask(log.signed(600), log.prove(600), 5)
        assert "owes the answer" in again.failures["hangs"]
        assert again.is_quorum
        assert panel.known_sizes == {str(cosigner(n).verifier): 600 for n in ("good", "behind")}


def test_a_quorum_that_cannot_be_met_is_told() -> None:
    with pytest.raises(WitnessConfigError, match="too few URLs"):
        WitnessPanel(policy_of({"a": NOBODY, "b": None}, "all"), {})
    WitnessPanel(policy_of({"a": NOBODY, "b": None}, "any"), {})


def test_nobody_is_waited_for_where_nobody_is_needed(log: TiledLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchors.witness.panel.LINGER_S", 0.0)
    with talking(hangs) as url:
        result = ask(policy_of({"w": url}, "none"), log, 7)
    assert (result.is_quorum, result.words, dict(result.failures)) == (True, (), {"w": "no answer yet"})
    assert result.signed.note == log.signed(7).note


def test_a_proof_that_fails_is_told(tmp_path: Path, log: TiledLog) -> None:
    def broken(_: int) -> list[bytes]:
        raise RuntimeError("a tile is missing")

    with served(new_witness(tmp_path / "w.sqlite", log)) as url:
        cosign(log, url, 3)
        result = WitnessPanel(policy_of({"w": url}, "all"), {}).ask(log.signed(7), broken, 30)
    assert (result.is_quorum, dict(result.failures)) == (False, {"w": "a tile is missing"})
