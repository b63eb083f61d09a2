"""Checkpoints and proofs as text."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace

from schemas.note import Ed25519Signer, Note, format_note, parse_note, sign_note
from schemas.trust import TrustRoot
from tests.kit.cases.case import EVENTS, Case, case, log_signer
from tests.kit.cases.spelling import SMALL_ORDER, torsioned
from tests.kit.parties import LOG, seed_of
from tests.kit.smalllog import SHARDS, TRUSTED, SmallLog


def notes() -> Iterator[Case]:
    """Checkpoints and proofs as text."""
    log = SmallLog(SHARDS)
    good = log.evidence()
    older = log.shards[EVENTS].signed(3)
    yield case(
        "older checkpoint",
        replace(good, shard_proof=log.shards[EVENTS].proof(0, older, 3)),
        "shard in epoch log",
    )
    text = parse_note(good.epoch_proof.partition(b"\n\n")[2]).text
    head = good.epoch_proof.partition(b"\n\n")[0] + b"\n\n"

    def told(name: str, note: bytes, step: str, trust: TrustRoot = TRUSTED) -> Case:
        return case(name, replace(good, epoch_proof=head + note, registry=(), anchor=None), step, trust)

    def signed(name: str, body: str, step: str) -> Case:
        # Only the first step after the note is told: without its chain the record fails at the latest there.
        return told(name, format_note(sign_note(body, [log_signer("log")])), step)

    here, later = "epoch checkpoint", "signatures"
    lines = text.splitlines()
    yield signed("genuine note", text, later)
    yield signed("extension line", text + "more\n", later)
    yield signed("empty extension line", text + "more\n\nmore\n", here)
    yield signed("leading zero", f"{lines[0]}\n0{lines[1]}\n{lines[2]}\n", here)
    yield signed("2^63 leaves", f"{lines[0]}\n{2**63}\n{lines[2]}\n", here)
    yield signed("2^63 - 1 leaves", f"{lines[0]}\n{2**63 - 1}\n{lines[2]}\n", "shard in epoch log")
    yield signed("no leaves", f"{lines[0]}\n0\n{lines[2]}\n", here)
    empty = base64.b64encode(hashlib.sha256().digest()).decode()
    yield signed("empty tree", f"{lines[0]}\n0\n{empty}\n", "shard in epoch log")
    yield signed("short root", f"{lines[0]}\n{lines[1]}\nAAAA\n", here)
    yield signed("two lines", f"{lines[0]}\n{lines[1]}\n", here)
    yield signed("another origin", f"other\n{lines[1]}\n{lines[2]}\n", here)
    yield signed("carriage return in a name", text.replace("\n", "\u2028\n", 1), here)
    signer = log_signer("log")
    line = f"— {LOG} ".encode()
    for label, signature in (
        ("torsioned R", torsioned("log", text.encode(), SMALL_ORDER[2])),
        ("R of small order", SMALL_ORDER[2] + bytes(32)),
        ("short", signer.sign(text.encode())[:-1]),
        ("long", signer.sign(text.encode()) + b"\0"),
    ):
        encoded = base64.b64encode(signer.key_id + signature)
        yield told(f"note signature: {label}", text.encode() + b"\n" + line + encoded + b"\n", here)
    others = [log_signer("stranger"), Ed25519Signer.from_seed("stranger", seed_of("log"))]
    yield told("signed under other names", format_note(sign_note(text, others)), here)
    yield told("and by strangers", format_note(sign_note(text, [*others, signer])), later)
    one = sign_note(text, [signer])
    bad = replace(one.signatures[0], blob=bytes(64))
    yield told("a good line, then a bad one", format_note(Note(text, (*one.signatures, bad))), later)
    yield told("a bad line, then a good one", format_note(Note(text, (bad, *one.signatures))), here)
    for count, step in ((100, later), (101, here)):
        yield told(f"{count} lines", format_note(Note(text, one.signatures * count)), step)
    note = format_note(one)
    for label, changed in (
        ("no em dash", note.replace("— ".encode(), b"- ")),
        ("no newline", note[:-1]),
        ("newline behind", note + b"\n"),
        ("space behind", note[:-1] + b" \n"),
        ("no blank line", note.replace(b"\n\n", b"\n")),
        ("tab in the text", note.replace(b"\n\n", b"\nmore\t\n\n")),
        ("no signature", text.encode() + b"\n"),
        ("another line without base64", note + "— name \n".encode()),
        ("another line without a name", note + "—  AAAAAAAA\n".encode()),
        ("another line with a plus", note + "— a+b AAAAAAAA\n".encode()),
        ("another line with a wide space", note + "— a\u3000b AAAAAAAA\n".encode()),
        ("another line with a strange name", note + "— \u180e\ufeff\u200b AAAAAAAA\n".encode()),
        ("another line with a long name", note + f"— {'é' * 128} AAAAAAAA\n".encode()),
        ("another line of 255 bytes of name", note + f"— {'a' * 255} AAAAAAAA\n".encode()),
        ("another line with four bytes", note + "— name AAAAAA==\n".encode()),
        ("another line with five bytes", note + "— name AAAAAAA=\n".encode()),
        ("another line of base64 spelled anew", note + "— name AAAAAAB=\n".encode()),
    ):
        yield told(f"note: {label}", changed, None)  # type: ignore[arg-type]
    whole = replace(good, registry=(), anchor=None)
    for label, before, after in (
        ("extra", b"@v1\n", b"@v1\nextra AAAA\n"),
        ("empty extra", b"@v1\n", b"@v1\nextra \n"),
        ("bad extra", b"@v1\n", b"@v1\nextra A\n"),
        ("two extras", b"@v1\n", b"@v1\nextra AAAA\nextra AAAA\n"),
        ("another version", b"@v1\n", b"@v2\n"),
        ("index of 0 digits", b"index ", b"index 0"),
        ("negative index", b"index ", b"index -"),
        ("great index", b"index ", b"index 9223372036854775808 "),
        ("carriage returns", b"\n", b"\r\n"),
        ("blank in front", b"c2sp", b" c2sp"),
        ("a hash more", b"\n\n", b"\n" + base64.b64encode(bytes(32)) + b"\n\n"),
        ("64 hashes more", b"\n\n", b"\n" + (base64.b64encode(bytes(32)) + b"\n") * 64 + b"\n"),
        ("a short hash more", b"\n\n", b"\n" + base64.b64encode(bytes(31)) + b"\n\n"),
    ):
        changed = good.epoch_proof.replace(before, after, 1)
        yield case(f"proof: {label}", replace(whole, epoch_proof=changed), None)
