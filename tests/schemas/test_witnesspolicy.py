"""Witness policies: the specification's rules, one by one, and who is enough."""

import itertools
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.note import CosignatureSigner, Ed25519Signer, Note, SignatureError, VerifierKey, sign_note
from schemas.witnesspolicy import (
    MAX_LINES_OF_A_KIND,
    MAX_POLICY_BYTES,
    PolicyError,
    WitnessPolicy,
    parse_policy,
)

TEXT = "ward.example\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"


def cosigner(number: int, time_s: int = 0) -> CosignatureSigner:
    return CosignatureSigner.from_seed(f"w{number}.example", number.to_bytes(32, "big"), time_s)


def vkey(number: int) -> str:
    return str(cosigner(number).verifier)


def log_vkey(number: int) -> str:
    return str(Ed25519Signer.from_seed(f"log{number}.example", number.to_bytes(32, "big")).verifier)


def keys(*numbers: int) -> list[VerifierKey]:
    return [cosigner(number).verifier for number in numbers]


def note(*signers: CosignatureSigner) -> Note:
    return sign_note(TEXT, [Ed25519Signer.from_seed("ward.example", bytes(32)), *signers])


TWO_LEVELS = f"""# two organisations
log {log_vkey(1000)}

witness X1 {vkey(1)}
witness\tX2  {vkey(2)}\thttps://x2.example/prefix
  witness X3 {vkey(3)}\x20
group X-witnesses 2 X1 X2 X3
witness Y1 {vkey(4)}
witness Y2 {vkey(5)}
  \t# another comment
group Y-witnesses any Y1 Y2
group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def test_the_example_of_the_specification() -> None:
    policy = parse_policy(TWO_LEVELS)
    assert [witness.name for witness in policy.witnesses] == ["X1", "X2", "X3", "Y1", "Y2"]
    assert [witness.url for witness in policy.witnesses] == [
        None,
        "https://x2.example/prefix",
        None,
        None,
        None,
    ]
    assert [log.key.name for log in policy.logs] == ["log1000.example"]
    assert policy.describe() == "2 of 2: (2 of 3: X1, X2, X3), (1 of 2: Y1, Y2)"
    for count in range(6):
        for chosen in itertools.combinations(range(1, 6), count):
            expected = len({1, 2, 3} & set(chosen)) >= 2 and bool({4, 5} & set(chosen))
            assert policy.quorum_met(keys(*chosen)) is expected


def test_one_witness_and_none() -> None:
    single = parse_policy(f"witness a {vkey(1)}\nwitness b {vkey(2)}\nquorum b\n")
    assert (single.quorum_met(keys(1)), single.quorum_met(keys(2))) == (False, True)
    assert single.describe() == "b"
    none = parse_policy(f"witness a {vkey(1)}\nquorum none\n")
    assert none.quorum_met([])
    assert none.quorum_time_s(none.cosignatures(note(cosigner(1, 9)))) is None
    assert none.describe() == "no witness is required"
    assert parse_policy("quorum none\n") == WitnessPolicy((), (), None)


def test_a_repeated_key_counts_once() -> None:
    policy = parse_policy(f"witness a {vkey(1)}\nwitness b {vkey(2)}\ngroup g 2 a b\nquorum g\n")
    assert not policy.quorum_met(keys(1, 1))
    other_name = VerifierKey("else.example", 4, cosigner(2).public_key)
    assert not policy.quorum_met([*keys(1), other_name])


A, B = f"witness a {vkey(1)}", f"witness b {vkey(2)}"


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([], "no quorum line"),
        ([A], "no quorum line"),
        ([A, "quorum a", "quorum a"], "line 3: a second quorum"),
        (["quorum none", "quorum none"], "line 2: a second quorum"),
        (["quorum a", A], "line 1: 'a' is not defined above"),
        (["group g any a", A, "quorum g"], "line 1: 'a' is not defined above"),
        ([A, "group g any g", "quorum g"], "line 2: 'g' is not defined above"),
        ([A, "group g any none", "quorum g"], "'none' is not defined above"),
        ([A, "group g any a a", "quorum g"], "'a' is a group's member already"),
        ([A, "group g any a", "group h any a g", "quorum h"], "'a' is a group's member already"),
        ([A, "group a any a", "quorum a"], "name 'a' is taken"),
        ([A, f"witness a {vkey(2)}", "quorum a"], "name 'a' is taken"),
        ([f"witness none {vkey(1)}", "quorum none"], "name 'none' is taken"),
        ([A, f"witness b {vkey(1)}", "quorum a"], "listed twice"),
        ([f"log {log_vkey(1)}", f"log {log_vkey(1)}", "quorum none"], "listed twice"),
        ([f"log {log_vkey(1)}", A, "quorum a"], "listed twice"),
        ([f"witness a {log_vkey(1)}", "quorum a"], "signature type 0x01, not 0x04"),
        ([f"log {vkey(1)}", "quorum none"], "signature type 0x04, not 0x01"),
        ([A, "group g 0 a", "quorum g"], "threshold '0'"),
        ([A, "group g 2 a", "quorum g"], "threshold '2'"),
        ([A, "group g 01 a", "quorum g"], "threshold '01'"),
        ([A, "group g +1 a", "quorum g"], "threshold '\\+1'"),
        ([A, "group g ١ a", "quorum g"], "threshold"),
        ([A, "group g -1 a", "quorum g"], "threshold '-1'"),
        ([A, "group g ANY a", "quorum g"], "threshold 'ANY'"),
        ([A, "group g any", "quorum g"], "line 2: group takes other parts"),
        (["witness a", "quorum none"], "witness takes other parts"),
        ([A + " u v", "quorum none"], "witness takes other parts"),
        (["log", "quorum none"], "log takes other parts"),
        ([A, "quorum", "quorum a"], "quorum takes other parts"),
        ([A, "quorum a # mine"], "quorum takes other parts"),
        ([A, "QUORUM a"], "'QUORUM' is none of"),
        ([A, "quorum\u00a0a"], "is none of"),
        ([A + "\r", "quorum a"], "line 1: holds the character '\\\\r'"),
        ([A, "quorum a\x00"], "line 2: holds the character"),
        ([A, "# \x7f", "quorum a"], "line 2: holds the character"),
        ([f"witness a {vkey(1)[:-4]}", "quorum a"], "line 1"),
        ([f"witness a {vkey(1).replace('+', '+0', 1)}", "quorum a"], "line 1"),
        (["witness a w.example+00000000+BA==", "quorum a"], "line 1"),
    ],
)
def test_a_broken_policy_is_refused(lines: list[str], what: str) -> None:
    with pytest.raises(PolicyError, match=what):
        parse_policy("".join(f"{line}\n" for line in lines))


def test_the_last_line_must_be_whole() -> None:
    with pytest.raises(PolicyError, match="does not end in a newline"):
        parse_policy(f"{A}\nquorum a")


def test_names_may_be_any_text() -> None:
    policy = parse_policy(
        f"witness Ώδε\u2028#1 {vkey(1)}\nwitness K {vkey(2)}\ngroup \u212a all K\nquorum \u212a\n"
    )
    assert [witness.name for witness in policy.witnesses] == ["Ώδε\u2028#1", "K"]
    assert policy.quorum_met(keys(2))
    assert not policy.quorum_met(keys(1))


def test_limits() -> None:
    def witnesses(count: int) -> str:
        return "".join(f"witness w{n} {vkey(n)}\n" for n in range(1, count + 1))

    full = parse_policy(witnesses(MAX_LINES_OF_A_KIND) + "quorum none\n")
    assert len(full.witnesses) == MAX_LINES_OF_A_KIND
    with pytest.raises(PolicyError, match="more than 64 witnesses"):
        parse_policy(witnesses(MAX_LINES_OF_A_KIND + 1) + "quorum none\n")

    def chain(count: int) -> str:
        links = [f"group g{n} all {f'g{n - 1}' if n else 'a'}\n" for n in range(count)]
        return f"{A}\n" + "".join(links) + f"quorum g{count - 1}\n"

    assert parse_policy(chain(MAX_LINES_OF_A_KIND)).quorum_met(keys(1))
    with pytest.raises(PolicyError, match="more than 64 groups"):
        parse_policy(chain(MAX_LINES_OF_A_KIND + 1))
    with pytest.raises(PolicyError, match="more than 64 logs"):
        parse_policy("".join(f"log {log_vkey(n)}\n" for n in range(1, 66)) + "quorum none\n")
    with pytest.raises(PolicyError, match="longer than"):
        parse_policy("#" * MAX_POLICY_BYTES + "\n")


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_any_bytes_are_a_policy_or_one_error(data: bytes | str) -> None:
    with suppress(PolicyError):
        parse_policy(data)


@given(st.integers(0, len(TWO_LEVELS) - 1), st.characters(max_codepoint=0x2FF))
def test_a_changed_policy_is_a_policy_or_one_error(place: int, character: str) -> None:
    with suppress(PolicyError):
        parse_policy(TWO_LEVELS[:place] + character + TWO_LEVELS[place + 1 :])


def test_cosignatures_of_a_note() -> None:
    policy = parse_policy(f"{A}\n{B}\nwitness c {vkey(3)}\ngroup g 2 a b c\nquorum g\n")

    def names(found: Iterable[object]) -> list[tuple[str, int]]:
        return [(each.witness.name, each.time_s) for each in found]  # type: ignore[attr-defined]

    assert policy.cosignatures(note()) == ()
    assert policy.cosignatures(note(cosigner(9, 5))) == ()
    found = policy.cosignatures(note(cosigner(2, 70), cosigner(9, 5), cosigner(1, 60)))
    assert names(found) == [("b", 70), ("a", 60)]
    assert policy.quorum_met(each.witness.key for each in found)
    assert policy.quorum_time_s(found) == 70
    assert policy.quorum_time_s(found[:1]) is None
    all_three = policy.cosignatures(note(cosigner(1, 90), cosigner(2, 10), cosigner(3, 60)))
    # One that dates itself back moves nothing as long as the quorum needs an honest one.
    assert policy.quorum_time_s(all_three) == 60


def test_a_cosignature_of_another_text_is_refused() -> None:
    policy = parse_policy(f"{A}\nquorum a\n")
    honest = note(cosigner(1, 60))
    with pytest.raises(SignatureError, match="the signature of w1"):
        policy.cosignatures(Note(honest.text.replace("\n0\n", "\n1\n"), honest.signatures))
