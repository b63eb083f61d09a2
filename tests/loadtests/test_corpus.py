"""A corpus is what its header says, the same for the same plan, and refused whole where it is not one."""

import json
import struct
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from loadtests import corpusmake
from loadtests.corpus import FILE, KINDS, MAGIC, SEED_FILE, Corpus
from loadtests.corpusplan import Plan
from loadtests.errors import CorpusError, PlanError
from schemas.ed25519 import verify_batch
from schemas.envelope import PayloadKind, decode_envelope, pae, pae_prefix
from schemas.events import decode_event

PLAN = Plan(
    "ward.example",
    devices=5,
    records=300,
    seed=7,
    first_us=1_700_000_000_000_000,
    event_rate=100.0,
    forged_share=0.1,
    shares=(0.8, 0.1, 0.1),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    corpusmake.make(folder, PLAN, jobs=1)
    return folder


def test_every_signature_is_what_the_header_says(made: Path) -> None:
    corpus = Corpus(made)
    index, header = corpus.index, corpus.header
    assert (len(index), header.forged, int(index.forged.sum())) == (300, 30, 30)
    assert header.mix == {kind.value: int((index.kinds == at).sum()) for at, kind in enumerate(KINDS)}
    keys, messages, signatures = [], [], []
    for number in range(len(index)):
        envelope = decode_envelope(corpus.envelope(number))
        kind = KINDS[index.kinds[number]]
        event = decode_event(kind, envelope.payload)
        assert event.device_id == corpus.did(int(index.devices[number]))
        assert header.first_us <= event.time_us <= header.last_us
        keys.append(corpus.device_key(int(index.devices[number])))
        messages.append(pae(pae_prefix(kind, header.log_name), envelope.payload))
        signatures.append(envelope.signatures[0].signature)
    assert verify_batch(keys, messages, signatures) == (~index.forged).tolist()


def test_numbers_count_up_without_a_gap_and_forgeries_use_up_none(made: Path) -> None:
    corpus = Corpus(made)
    newest: defaultdict[tuple[str, PayloadKind], int] = defaultdict(int)
    for number in range(len(corpus.index)):
        kind = KINDS[corpus.index.kinds[number]]
        event = decode_event(kind, decode_envelope(corpus.envelope(number)).payload)
        assert event.sequence == newest[event.device_id, kind] + 1
        if not corpus.index.forged[number]:
            newest[event.device_id, kind] += 1


def test_nurses_who_log_in_are_in_the_corpus(made: Path) -> None:
    corpus = Corpus(made)
    known = {corpus.did(corpus.header.devices + number) for number in range(corpus.header.nurses)}
    for number in range(len(corpus.index)):
        if KINDS[corpus.index.kinds[number]] is PayloadKind.ACCESS:
            event = decode_event(PayloadKind.ACCESS, decode_envelope(corpus.envelope(number)).payload)
            assert event.body["subject"] in known


def test_one_plan_gives_one_file_however_many_processes(made: Path, tmp_path: Path) -> None:
    corpusmake.make(tmp_path, PLAN, jobs=2)
    assert (tmp_path / FILE).read_bytes() == (made / FILE).read_bytes()


def test_the_seed_is_its_owners_alone(made: Path) -> None:
    path = made / SEED_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "7\n"
    assert b"seed" not in (made / FILE).read_bytes()[:4096]


def test_record_size_is_grown_by_readings(tmp_path: Path) -> None:
    corpusmake.make(tmp_path, replace(PLAN, records=20, shares=(1.0, 0.0, 0.0), record_size=800), jobs=1)
    assert abs(Corpus(tmp_path).index.sizes.mean() - 800) < 20


@pytest.mark.parametrize(
    "change",
    [
        {"record_size": 100},
        {"record_size": 60_000},
        {"devices": 0},
        {"records": 0},
        {"event_rate": 0.0},
        {"forged_share": 1.5},
        {"shares": (0.5, 0.1, 0.1)},
        {"readings": 1000},
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(PlanError):
        corpusmake.make(tmp_path, replace(PLAN, **change), jobs=1)  # type: ignore[arg-type]


def test_a_corpus_that_was_cut_off_is_refused(made: Path, tmp_path: Path) -> None:
    data, cut = (made / FILE).read_bytes(), tmp_path / FILE
    for size in [*range(0, 700, 13), *range(700, len(data), 4999), len(data) - 1]:
        cut.write_bytes(data[:size])
        with pytest.raises(CorpusError):
            Corpus(tmp_path)


def test_a_corpus_with_a_changed_byte_is_refused(made: Path, tmp_path: Path) -> None:
    data = bytearray((made / FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(CorpusError, match="digest"):
        Corpus(tmp_path)


def _written(path: Path, header: dict[str, object] | bytes, rest: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    whole = MAGIC + struct.pack(">I", len(text)) + text + rest
    path.write_bytes(whole + blake3(whole).digest())
    return path


HEADER: dict[str, object] = {
    "log_name": "x.example",
    "devices": 1,
    "nurses": 0,
    "records": 1,
    "forged": 0,
    "mix": {"telemetry": 1},
    "first_us": 0,
    "last_us": 0,
    "event_rate": 1.0,
}


@pytest.mark.parametrize(
    ("header", "rest"),
    [
        ({**HEADER, "records": 2**31}, bytes(32)),
        ({**HEADER, "devices": 2**40}, bytes(32)),
        ({**HEADER, "records": True}, bytes(32)),
        ({**HEADER, "event_rate": "fast"}, bytes(32)),
        ({**HEADER, "mix": []}, bytes(32)),
        ({**HEADER, "more": 1}, bytes(32)),
        (b"[1]", bytes(32)),
        (b"\xff", bytes(32)),
        (HEADER, bytes(32) + struct.pack(">IBI", 2**32 - 1, 0, 0)),
        (HEADER, bytes(32) + struct.pack(">IBI", 5, 0, 0)),
        (HEADER, bytes(32) + struct.pack(">IBI", 6, 9, 0) + b"x"),
        (HEADER, bytes(32) + struct.pack(">IBI", 6, 0, 1) + b"x"),
        (HEADER, bytes(32) + struct.pack(">IBI", 6, 0x80, 0) + b"x"),
        (HEADER, bytes(32) + struct.pack(">IBI", 6, 0, 0) + b"xy"),
    ],
)
def test_a_header_or_record_that_lies_is_refused(
    tmp_path: Path, header: dict[str, object] | bytes, rest: bytes
) -> None:
    with pytest.raises(CorpusError):
        Corpus(_written(tmp_path / FILE, header, rest))


def test_the_smallest_corpus_is_read(tmp_path: Path) -> None:
    corpus = Corpus(_written(tmp_path / FILE, HEADER, bytes(32) + struct.pack(">IBI", 6, 0, 0) + b"x"))
    assert corpus.envelope(0) == b"x"
    with pytest.raises(CorpusError, match="key 0"):
        corpus.did(0)  # 32 zeros are no key


@given(st.binary(max_size=400))
def test_bytes_of_any_kind_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bin"
    for content in (data, MAGIC + data):
        path.write_bytes(content)
        with pytest.raises(CorpusError):
            Corpus(path)


def test_no_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot read"):
        Corpus(tmp_path)


def test_envelopes_are_the_codecs_byte_for_byte(made: Path) -> None:
    corpus = Corpus(made)
    for number in range(len(corpus.index)):
        value = corpus.envelope(number)
        assert decode_envelope(value).encode() == value
