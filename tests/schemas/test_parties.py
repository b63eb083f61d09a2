"""The parties file: what is believed, and what of hostile input is refused with its place named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ed25519 import public_key
from schemas.errors import FormatError
from schemas.note import Ed25519Signer, Note, SignatureError, format_note, sign_note
from schemas.parties import AlertFilter, open_parties, parse_parties, parties_key_name
from schemas.partyoutputs import PartyError
from schemas.records import Severity
from schemas.trust import TrustRoot

LOG = "hospital.example"
SEEDS = {name: bytes([number]) * 32 for number, name in enumerate(("log", "a1", "a2", "stranger"), 1)}


def trust(threshold: int = 1) -> TrustRoot:
    authorities = {name: public_key(SEEDS[name]) for name in ("a1", "a2")}
    return TrustRoot(LOG, public_key(SEEDS["log"]), authorities, threshold)


def document(**changes: Any) -> dict[str, Any]:
    webhook = {
        "name": "hook",
        "kind": "webhook",
        "url": "https://soc.example/alerts",
        "secret": {"env": "SOC_SECRET"},
    }
    party = {"name": "soc", "filter": {"severity": "medium"}, "outputs": [webhook]}
    return {"log_name": LOG, "version": 3, "parties": [party], **changes}


def text_of(found: object) -> str:
    return json.dumps(found, indent=2) + "\n"


def signed(text: str, *names: str, key_name: str = parties_key_name(LOG)) -> bytes:
    return format_note(sign_note(text, [Ed25519Signer.from_seed(key_name, SEEDS[name]) for name in names]))


def with_output(**members: Any) -> dict[str, Any]:
    return document(parties=[{"name": "soc", "filter": {}, "outputs": [{"name": "one", **members}]}])


def test_a_signed_file_is_read() -> None:
    parties = open_parties(signed(text_of(document()), "a1"), trust())
    assert (parties.version, [party.name for party in parties.parties]) == (3, ["soc"])
    output = parties.parties[0].outputs[0]
    assert (output.kind, str(output.secret)) == ("webhook", "$SOC_SECRET")


def test_as_many_authorities_as_the_trust_file_demands_must_sign() -> None:
    text = text_of(document())
    assert open_parties(signed(text, "a1", "a2"), trust(2)).version == 3
    with pytest.raises(SignatureError, match="1 authorities signed, 2 must"):
        open_parties(signed(text, "a1"), trust(2))
    twice = sign_note(text, [Ed25519Signer.from_seed(parties_key_name(LOG), SEEDS["a1"])])
    doubled = format_note(Note(twice.text, twice.signatures * 2))
    with pytest.raises(SignatureError, match="1 authorities signed, 2 must"):
        open_parties(doubled, trust(2))


@pytest.mark.parametrize("names", [("stranger",), ("log",)])
def test_nobody_else_may_sign(names: tuple[str, ...]) -> None:
    with pytest.raises(SignatureError, match="no trusted key"):
        open_parties(signed(text_of(document()), *names), trust())


def test_a_signature_for_another_purpose_or_text_is_none() -> None:
    with pytest.raises(SignatureError):
        open_parties(signed(text_of(document()), "a1", key_name=LOG), trust())
    altered = signed(text_of(document()), "a1").replace(b"soc.example", b"evil.example")
    with pytest.raises(SignatureError, match="does not fit"):
        open_parties(altered, trust())


def test_a_file_of_another_log_is_refused() -> None:
    with pytest.raises(PartyError, match="for another log"):
        open_parties(signed(text_of(document(log_name="other.example")), "a1"), trust())


BROKEN = {
    "version 0": (document(version=0), "version"),
    "version as text": (document(version="3"), "version"),
    "unknown member": (document(partys=[]), "partys"),
    "no filter": (document(parties=[{"name": "soc", "outputs": []}]), "filter is missing"),
    "misspelled filter": (
        document(parties=[{"name": "soc", "filter": {"ward": ["ICU"]}, "outputs": []}]), "'ward'"),
    "empty filter list": (
        document(parties=[{"name": "soc", "filter": {"wards": []}, "outputs": []}]), "is empty"),
    "unknown severity": (
        document(parties=[{"name": "soc", "filter": {"severity": "loud"}, "outputs": []}]), "none of"),
    "unknown class": (
        document(parties=[{"name": "soc", "filter": {"classes": [1]}, "outputs": []}]), "none of 2004"),
    "name that is no topic": (document(parties=[{"name": "../x", "filter": {}, "outputs": []}]), "name"),
    "reserved name": (document(parties=[{"name": "changelog", "filter": {}, "outputs": []}]), "must not be"),
    "same party twice": (
        document(parties=[{"name": "soc", "filter": {}, "outputs": []}] * 2), "there twice"),
    "too many parties": (
        document(parties=[{"name": f"p{n}", "filter": {}, "outputs": []} for n in range(65)]), "at most 64"),
    "unknown kind": (with_output(kind="fax"), "none of webhook"),
    "written secret": (
        with_output(kind="webhook", url="https://x.example", secret="hunter2"), "not a JSON object"),
    "two secrets": (
        with_output(kind="webhook", url="https://x.example", secret={"env": "A", "file": "/b"}), "neither"),
    "odd variable": (
        with_output(kind="webhook", url="https://x.example", secret={"env": "a b"}), "environment variable"),
    "relative file": (
        with_output(kind="webhook", url="https://x.example", secret={"file": "b"}), "absolute"),
    "no secret": (with_output(kind="webhook", url="https://x.example"), "secret is missing"),
    "password in URL": (
        with_output(kind="webhook", url="https://a:b@x.example", secret={"env": "A"}), "never written"),
    "file URL": (with_output(kind="webhook", url="file:///etc/passwd", secret={"env": "A"}), "http"),
    "URL with a line break": (
        with_output(kind="webhook", url="https://x.example/\r\nX: y", secret={"env": "A"}), "URL"),
    "URL with a bad port": (
        with_output(kind="webhook", url="https://x.example:99999", secret={"env": "A"}), "URL"),
    "URL with a broken host": (
        with_output(kind="webhook", url="https://[::1", secret={"env": "A"}), "URL"),
    "plain http": (with_output(kind="webhook", url="http://x.example", secret={"env": "A"}), "plain http"),
    "bad network": (
        with_output(kind="alertmanager", url="https://x.example", allow=["10.0.0.1/8"]), "no network"),
    "open listener": (with_output(kind="sse", listen="0.0.0.0:8443"), "secret is missing"),
    "listener without TLS": (
        with_output(kind="sse", listen="0.0.0.0:8443", secret={"env": "A"}), "needs TLS"),
    "half a certificate": (with_output(kind="sse", listen="127.0.0.1:1", certificate="/c"), "go together"),
    "no port": (with_output(kind="syslog", address="x.example"), "HOST:PORT"),
    "port 0": (with_output(kind="syslog", address="x.example:0"), "port"),
    "sd_id": (with_output(kind="syslog", address="x.example:1", sd_id="x y@1"), "sd_id"),
    "member of another kind": (
        with_output(kind="syslog", address="x.example:1", url="https://x.example"), "'url'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_its_place(case: str) -> None:
    found, message = BROKEN[case]
    with pytest.raises(PartyError, match=message):
        parse_parties(text_of(found), LOG)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"version": 1, "version": 2}',
        "NaN",
        "[" * 100_000,
        '{"log_name": "\\ud800"}',
        " " * (1 << 21),
    ],
)
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(PartyError):
        parse_parties(text, LOG)


def _paths(found: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [path, *(each for name, value in inner for each in _paths(value, (*path, name)))]


@given(st.data())
def test_any_member_may_be_anything_and_only_a_format_error_comes(data: st.DataObject) -> None:
    found: Any = json.loads(text_of(document()))
    *path, last = data.draw(st.sampled_from([each for each in _paths(found) if each]))
    place = found
    for name in path:
        place = place[name]
    place[last] = data.draw(
        st.sampled_from([None, 0, -1, 2**70, True, "", "x", [], [1], {}, [{}], 1.5, "\ud800"])
    )
    try:
        parse_parties(json.dumps(found), LOG)
    except FormatError as error:
        assert str(error)  # noqa: PT017 - what comes is a FormatError or nothing


def test_a_filter_fits_only_if_every_member_does() -> None:
    everything, some = (
        AlertFilter(),
        AlertFilter(Severity.HIGH, (2004,), ("ICU-1", "ICU-2"), ("Acme",), ("stuck",)),
    )
    assert everything.fits(Severity.INFORMATIONAL, 6003, "", "", "anything")
    fitting: dict[str, Any] = {"severity": Severity.CRITICAL, "class_uid": 2004, "ward": "ICU-2"}
    fitting |= {"manufacturer": "Acme", "rule": "stuck"}
    assert some.fits(**fitting)
    others = {
        "severity": Severity.MEDIUM,
        "class_uid": 6003,
        "ward": "",
        "manufacturer": "X",
        "rule": "bounds",
    }
    for name, other in others.items():
        assert not some.fits(**{**fitting, name: other})
