"""Trust files and witness policies."""

from collections.abc import Iterator
from dataclasses import replace

from schemas.note import Note, format_note, parse_note
from tests.kit.cases.case import Case, case, log_signer
from tests.kit.cases.spelling import SMALL_ORDER
from tests.kit.parties import key_of
from tests.kit.smalllog import SHARDS, TRUSTED, WITNESSED, WITNESSES, SmallLog, witness


def witnesses() -> Iterator[Case]:
    """Cosignatures and policies."""
    log = SmallLog(SHARDS)
    every = [witness(name) for name in WITNESSES]
    for count in range(4):
        for required in ("all", "any", "1", "2", "3"):
            least = {"all": 3, "any": 1}.get(required) or int(required)
            policy = policy_over(f"group g {required} a b c", "quorum g")
            trust = replace(TRUSTED, witness_policy=policy)
            found = log.evidence(cosigned=every[:count])
            yield case(
                f"{count} cosigned, {required} must", found, "" if count >= least else "witnesses", trust
            )
    signed = log.evidence(cosigned=every[1:])
    for name, lines, step in (
        ("none", ("quorum none",), ""),
        ("one", ("quorum b",), ""),
        ("another one", ("quorum a",), "witnesses"),
        ("groups in groups", ("group g any a b", "group h all g c", "quorum h"), ""),
        ("groups that are missed", ("group g all a b", "group h any g", "quorum h"), "witnesses"),
        ("remarks and blanks", ("# remark", "", " \t quorum\t \tb ", "#"), ""),
        ("no quorum", ("group g any a b",), "trust file"),
        ("two quorums", ("quorum a", "quorum b"), "trust file"),
        ("two quorums of none", ("quorum none", "quorum none"), "trust file"),
        ("unknown member", ("group g any a x", "quorum g"), "trust file"),
        ("unknown quorum", ("quorum x",), "trust file"),
        ("defined below", ("quorum g", "group g any a b"), "trust file"),
        ("a member twice", ("group g any a a", "quorum g"), "trust file"),
        ("a member of two groups", ("group g any a b", "group h any b c", "quorum g"), "trust file"),
        ("a group within itself", ("group g any a g", "quorum g"), "trust file"),
        ("a name twice", ("group a any b c", "quorum a"), "trust file"),
        ("a group named none", ("group none any b c", "quorum none"), "trust file"),
        ("a group without members", ("group g any", "quorum b"), "trust file"),
        ("threshold 0", ("group g 0 a b", "quorum g"), "trust file"),
        ("threshold 03", ("group g 03 a b c", "quorum g"), "trust file"),
        ("threshold of 3 for 2", ("group g 3 a b", "quorum g"), "trust file"),
        ("threshold in words", ("group g constructor a b", "quorum g"), "trust file"),
        ("a log", (f"log {log_signer('other').verifier}", "quorum b"), ""),
        ("a log with a place", (f"log {log_signer('other').verifier} https://a", "quorum b"), ""),
        ("a log with a witness's type", (f"log {witness('other').verifier}", "quorum b"), "trust file"),
        (
            "a witness with a log's type",
            (f"witness d {log_signer('other').verifier}", "quorum b"),
            "trust file",
        ),
        ("a key twice", (f"witness d {every[0].verifier}", "quorum b"), "trust file"),
        ("a parameter too many", (f"witness d {witness('d').verifier} url url", "quorum b"), "trust file"),
        ("another word", ("witnesses 3", "quorum b"), "trust file"),
        ("a word of every object", ("toString a", "quorum b"), "trust file"),
        ("a form feed", ("quorum b\x0c",), "trust file"),
        ("a no-break space", ("quorum\u00a0b",), "trust file"),
        ("a name of a no-break space", (f"witness \u00a0 {witness('d').verifier}", "quorum b"), ""),
        (
            "a vkey with a wrong hash",
            (f"witness d d+00000000+{str(witness('d').verifier)[11:]}", "quorum b"),
            "trust file",
        ),
        (
            "62 more witnesses",
            (*(f"witness n{n} {witness(f'n{n}').verifier}" for n in range(62)), "quorum b"),
            "trust file",
        ),
        ("64 groups of logs", (*(f"log {log_signer(f'n{n}').verifier}" for n in range(64)), "quorum b"), ""),
        ("65 logs", (*(f"log {log_signer(f'n{n}').verifier}" for n in range(65)), "quorum b"), "trust file"),
    ):
        yield case(f"policy: {name}", signed, step, replace(TRUSTED, witness_policy=policy_over(*lines)))
    for length, step in ((65_000, ""), (66_000, "trust file")):
        remark = "# " + "é" * (length // 2)
        trust = replace(TRUSTED, witness_policy=policy_over(remark, "quorum none"))
        yield case(f"policy: a remark of {length} bytes", signed, step, trust)
    cut = replace(TRUSTED, witness_policy=policy_over("quorum b")[:-1])
    yield case("policy: no newline", signed, "trust file", cut)
    mixed = replace(TRUSTED, witness_policy=policy_over("quorum b").replace("\n", "\r\n"))
    yield case("policy: carriage returns", signed, "trust file", mixed)
    same = replace(TRUSTED, witness_policy=f"witness w {witness_of_log()}\nquorum none\n")
    yield case("policy: the log's own key", signed, "trust file", same)
    note = parse_note(signed.epoch_proof.partition(b"\n\n")[2])
    head = signed.epoch_proof.partition(b"\n\n")[0] + b"\n\n"
    trust = replace(TRUSTED, witness_policy=policy_over("quorum b"))
    for name, blob, step in (
        ("another time", b"\0" * 8 + note.signatures[1].blob[8:], "witnesses"),
        ("a time above 2^63", b"\xff" * 8 + note.signatures[1].blob[8:], "witnesses"),
        ("no time", note.signatures[1].blob[8:], "witnesses"),
        ("nothing", b"\0", "witnesses"),
    ):
        changed = format_note(Note(note.text, (note.signatures[0], replace(note.signatures[1], blob=blob))))
        found = replace(signed, epoch_proof=head + changed, registry=(), anchor=None)
        yield case(f"cosignature with {name}", found, step, trust)
    yield case("nobody cosigned", log.evidence(), "witnesses", WITNESSED)
    latest = witness(WITNESSES[1], 2**63 - 1)
    yield case("the latest time", log.evidence(cosigned=[latest]), "", trust)


def trusts() -> Iterator[Case]:
    """Trust files; the evidence is good."""
    log = SmallLog(SHARDS)
    good = log.evidence()
    rotated = replace(TRUSTED, log_key=key_of("newer log"), previous_log_keys=(key_of("log"),))
    yield case("signed by an earlier log key", good, "", rotated)
    yield case(
        "signed by a forgotten log key", good, "shard checkpoint", replace(rotated, previous_log_keys=())
    )
    newer = SmallLog(SHARDS, key="newer log")
    yield case("signed by the newer log key", newer.evidence(), "", rotated)
    yield case("another log name", good, "shard checkpoint", replace(TRUSTED, log_name="other.example"))
    for name in ("", "a b", "a+b", "a\tb", "a\u3000b", "é" * 128):
        yield case(f"log name {name[:9]!a}", good, "trust file", replace(TRUSTED, log_name=name))
    long = replace(TRUSTED, log_name="a" * 255)
    yield case("a log name with no room for its shards", good, "shard checkpoint", long)
    for raw in SMALL_ORDER:
        yield case(f"log key {raw.hex()[:8]}", good, "trust file", replace(TRUSTED, log_key=raw))
    for threshold, step in ((0, "trust file"), (1, ""), (3, "trust file"), (-1, "trust file")):
        trust = replace(TRUSTED, authority_threshold=threshold)
        yield case(f"threshold {threshold}", good, step, trust)
    nobody = replace(TRUSTED, authorities={})
    yield case("no authorities", good, "registry chain", nobody)
    for name, changes in {
        "the log key as authority": {"authorities": {"a": key_of("log")}},
        "an authority twice": {"authorities": dict.fromkeys("ab", key_of("authority-1"))},
        "an earlier key twice": {"previous_log_keys": (key_of("log"),)},
    }.items():
        yield case(name, good, "trust file", replace(TRUSTED, **changes))  # type: ignore[arg-type]


def witness_of_log() -> str:
    """A witness's verifier key that is the log's."""
    return str(replace(witness("w"), public_key=key_of("log")).verifier)


def policy_over(*lines: str) -> str:
    """A policy over the witnesses a, b and c."""
    known = [
        f"witness {short} {witness(name).verifier}" for short, name in zip("abc", WITNESSES, strict=True)
    ]
    return "\n".join((*known, *lines)) + "\n"
