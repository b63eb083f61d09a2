"""What our witness answers: the specification's status for each case, and never a fork."""

import hashlib
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchors.errors import WitnessConfigError, WitnessStoreError
from anchors.witness.addcheckpoint import AddCheckpoint, format_size, parse_add_checkpoint, parse_size
from anchors.witness.memory import Memory
from anchors.witness.witness import Answer, KnownLog, Witness
from pipeline.cli.witness import _is_consistent
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.note import (
    Ed25519Signer,
    Note,
    format_note,
    parse_note,
    parse_signatures,
    verify_note,
)
from tests.kit.witnesses import TiledLog, cosigner, new_witness

NOW_S = 1_700_000_000


@pytest.fixture
def log() -> TiledLog:
    made = TiledLog()
    for size in (0, 1, 5, 7, 300):
        made.grow(size)
    return made


@pytest.fixture
def witness(tmp_path: Path, log: TiledLog) -> Witness:
    return new_witness(tmp_path / "w.sqlite", log, now_s=lambda: NOW_S + 0.9)


def check_cosigned(answer: Answer, log: TiledLog, size: int) -> None:
    assert answer.status == 200, answer
    note = Note(log.signed(size).note.text, parse_signatures(answer.body))
    assert [(v.key, v.time_s) for v in verify_note(note, [cosigner("w").verifier])] == [
        (cosigner("w").verifier, NOW_S)
    ]
    assert len(note.signatures) == 1


def test_a_growing_log_is_cosigned(witness: Witness, log: TiledLog) -> None:
    for old, size in [(0, 1), (1, 5), (5, 5), (5, 300)]:
        check_cosigned(witness.add_checkpoint(log.request(old, size)), log, size)


def test_an_empty_log_may_be_cosigned_first(witness: Witness, log: TiledLog) -> None:
    for old, size in [(0, 0), (0, 0), (0, 5)]:
        check_cosigned(witness.add_checkpoint(log.request(old, size)), log, size)


def test_what_is_remembered_survives(tmp_path: Path, log: TiledLog) -> None:
    first = new_witness(tmp_path / "w.sqlite", log)
    assert first.add_checkpoint(log.request(0, 5)).status == 200
    again = new_witness(tmp_path / "w.sqlite", log)
    assert again.add_checkpoint(log.request(0, 7)) == Answer(409, b"5\n", "text/x.tlog.size")


def no(answer: Answer, status: int, *, knows: int | None = None) -> None:
    assert answer.status == status, answer
    assert b"\xe2\x80\x94" not in answer.body
    assert (answer.content_type == "text/x.tlog.size") is (knows is not None)
    if knows is not None:
        assert answer.body == f"{knows}\n".encode()


def test_the_status_of_each_refusal(witness: Witness, log: TiledLog) -> None:
    assert witness.add_checkpoint(log.request(0, 5)).status == 200
    proof = tuple(log.prove(7)(5))
    seven = format_note(log.signed(7).note)

    def ask(old: int, hashes: tuple[bytes, ...], checkpoint: bytes) -> Answer:
        return witness.add_checkpoint(AddCheckpoint(old, hashes, checkpoint).encode())

    stranger = TiledLog(origin="other.example")
    stranger.grow(7)
    no(witness.add_checkpoint(stranger.request(0, 7)), 404)
    forger = Ed25519Signer.from_seed(log.origin, bytes(32))
    no(ask(5, proof, format_note(log.signed(7, [forger]).note)), 403)
    bit_flipped = log.signed(7).note
    broken = bytes([bit_flipped.signatures[0].blob[0] ^ 1]) + bit_flipped.signatures[0].blob[1:]
    damaged = Note(
        bit_flipped.text, (type(bit_flipped.signatures[0])(log.origin, log.signer.key_id, broken),)
    )
    no(ask(5, proof, format_note(damaged)), 403)
    no(ask(8, (), seven), 400)
    no(ask(0, (), seven), 409, knows=5)
    no(ask(4, (), seven), 409, knows=5)
    no(ask(7, (), seven), 409, knows=5)
    no(ask(5, (), seven), 422)
    no(ask(5, proof[:-1], seven), 422)
    no(ask(5, (*proof, bytes(32)), seven), 422)
    no(ask(5, (bytes(32), *proof[1:]), seven), 422)
    no(ask(5, (bytes(32),), format_note(log.signed(5).note)), 422)
    forked = sign_checkpoint(Checkpoint(log.origin, 5, bytes(32)), [log.signer])
    no(ask(5, (), format_note(forked)), 422)
    assert ask(5, proof, seven).status == 200
    # A smaller one, however well it is signed, is refused from now on.
    no(witness.add_checkpoint(log.request(5, 5)), 409, knows=7)
    no(witness.add_checkpoint(log.request(0, 5)), 409, knows=7)


def test_a_proof_from_nothing_is_refused(witness: Witness, log: TiledLog) -> None:
    no(witness.add_checkpoint(AddCheckpoint(0, (bytes(32),), format_note(log.signed(7).note)).encode()), 422)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0",
        b"old 0\n",
        b"old 0\n\n",
        b"old 00\n\n%s",
        b"old -1\n\n%s",
        b"old +1\n\n%s",
        b"old 1_0\n\n%s",
        b"old  0\n\n%s",
        b"old 0 \n\n%s",
        b"OLD 0\n\n%s",
        b"old 9223372036854775808\n\n%s",
        b"old 0\r\n\n%s",
        b"\n\nold 0\n\n%s",
        b"old 0\nnot base64\n\n%s",
        b"old 0\nAAAA\n\n%s",
        b"old 0\n" + b"A" * 43 + b"\n\n%s",
        b"old 0\n" + b"A" * 42 + b"B=\n\n%s",
        b"old 0\n" + (b"A" * 43 + b"=\n") * 64 + b"\n%s",
        b"old 0\n\xff\n\n%s",
        b"%s",
        b"old 0\n\nward.example\n",
        b"old 0\n\nward.example\n1\nAAAA\n\n",
        b"old 0\n\n%sx",
    ],
)
def test_a_malformed_request_is_refused(witness: Witness, log: TiledLog, body: bytes) -> None:
    no(witness.add_checkpoint(body.replace(b"%s", format_note(log.signed(7).note))), 400)


def test_other_signatures_are_ignored(witness: Witness, log: TiledLog) -> None:
    crowd = [Ed25519Signer.from_seed(f"{n}.example", bytes([n] * 32)) for n in range(3)]
    note = format_note(log.signed(5, [*crowd, log.signer]).note)
    check_cosigned(witness.add_checkpoint(AddCheckpoint(0, (), note).encode()), log, 5)


def test_a_log_may_change_its_key(tmp_path: Path, log: TiledLog) -> None:
    later = Ed25519Signer.from_seed("key-2", bytes([9] * 32))
    known = [KnownLog(log.origin, log.signer.verifier), KnownLog(log.origin, later.verifier)]
    witness = Witness(cosigner("w"), known, Memory(tmp_path / "w.sqlite"), _is_consistent)
    assert witness.add_checkpoint(log.request(0, 5)).status == 200
    note = format_note(log.signed(7, [later]).note)
    assert witness.add_checkpoint(AddCheckpoint(5, tuple(log.prove(7)(5)), note).encode()).status == 200


def test_a_witness_follows_no_log_of_its_own_key(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "w.sqlite")
    own = Ed25519Signer("ward.example", cosigner("w").public_key, cosigner("w").sign_raw)
    for key in (own.verifier, cosigner("x").verifier):
        with pytest.raises(WitnessConfigError, match="signs no log"):
            Witness(cosigner("w"), [KnownLog("ward.example", key)], memory, _is_consistent)


def test_a_clock_that_went_back_signs_nothing(tmp_path: Path, log: TiledLog) -> None:
    now_s = float(NOW_S)
    witness = new_witness(tmp_path / "w.sqlite", log, now_s=lambda: now_s)
    assert witness.add_checkpoint(log.request(0, 5)).status == 200
    now_s -= 1
    no(witness.add_checkpoint(log.request(5, 7)), 503)
    now_s += 1
    assert witness.add_checkpoint(log.request(5, 7)).status == 200


def test_a_memory_that_fails_signs_nothing(tmp_path: Path, log: TiledLog) -> None:
    witness = new_witness(tmp_path / "w.sqlite", log)
    with sqlite3.connect(tmp_path / "w.sqlite") as other:
        other.execute("DROP TABLE log")
    with pytest.raises(WitnessStoreError, match=r"w\.sqlite"):
        witness.add_checkpoint(log.request(0, 5))


def test_a_signer_that_fails_leaves_nothing_remembered(tmp_path: Path, log: TiledLog) -> None:
    def fails(_: bytes) -> bytes:
        raise RuntimeError("the token is unplugged")

    signer = type(cosigner("w"))(cosigner("w").name, cosigner("w").public_key, fails, 0)
    known = [KnownLog(log.origin, log.signer.verifier)]
    broken = Witness(signer, known, Memory(tmp_path / "w.sqlite"), _is_consistent)
    with pytest.raises(RuntimeError):
        broken.add_checkpoint(log.request(0, 5))
    assert new_witness(tmp_path / "w.sqlite", log).add_checkpoint(log.request(0, 7)).status == 200


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE log (origin TEXT)")
    with pytest.raises(WitnessStoreError, match="no witness's database"):
        Memory(tmp_path / "other.sqlite")
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    with pytest.raises(WitnessStoreError, match="junk"):
        Memory(tmp_path / "junk")


def test_the_memory_is_durable(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "w.sqlite")
    assert memory._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert memory._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert memory.is_new
    assert not Memory(tmp_path / "w.sqlite").is_new


def test_many_at_once_cosign_one_history(tmp_path: Path, log: TiledLog) -> None:
    """Two logs of one name and key race for the first word, and only one history is ever cosigned."""
    fork = TiledLog(text="fork")
    for size in (1, 5, 7):
        fork.grow(size)
    # Two memories on one file stand for two processes.
    witnesses = [new_witness(tmp_path / "w.sqlite", log) for _ in range(2)]
    told: list[tuple[str, int]] = []

    def submit(which: TiledLog, witness: Witness) -> None:
        for old, size in [(0, 1), (0, 5), (1, 5), (0, 7), (1, 7), (5, 7)]:
            answer = witness.add_checkpoint(which.request(old, size))
            told.extend([(which.text, size)] if answer.status == 200 else [])

    threads = [threading.Thread(target=submit, args=(w, v)) for w in (log, fork) for v in witnesses * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({text for text, _ in told}) == 1
    assert (told[0][0], 7) in told


def test_the_newest_checkpoint_can_be_read(witness: Witness, log: TiledLog) -> None:
    origin_hash = hashlib.sha256(log.origin.encode()).hexdigest()
    assert witness.latest(origin_hash).status == 404
    witness.add_checkpoint(log.request(0, 5))
    witness.add_checkpoint(log.request(5, 7))
    note = parse_note(witness.latest(origin_hash).body)
    assert note.text == log.signed(7).note.text
    assert len(verify_note(note, [log.signer.verifier, witness.key])) == 2
    assert witness.latest("0" * 64).status == 404


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.binary(max_size=99),
)
def test_a_request_reads_back(old: int, proof: list[bytes], checkpoint: bytes) -> None:
    request = AddCheckpoint(old, tuple(proof), checkpoint)
    assert parse_add_checkpoint(request.encode()) == request
    assert parse_size(format_size(old)) == old


def test_any_bytes_are_answered(tmp_path: Path, log: TiledLog) -> None:
    witness = new_witness(tmp_path / "w.sqlite", log)
    body = log.request(0, 7)

    @given(st.integers(0, len(body) - 1), st.integers(1, 255), st.integers(0, 3))
    def changed(place: int, mask: int, cut: int) -> None:
        data = bytes([*body[:place], body[place] ^ mask, *body[place + 1 :]])[: len(body) - cut]
        assert witness.add_checkpoint(data).status in (400, 403, 404, 409)

    changed()
