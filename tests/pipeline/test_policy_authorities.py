"""Policies that take two authorities: signed one after the other, and in force only then."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import kafka as clients
from pipeline.cli.main import build
from pipeline.identity import create_identity, save_identity
from pipeline.policies import PolicyAuthority
from pipeline.topics import POLICIES
from pipeline.trust import load_trust, trust_path
from schemas.envelope import decode_envelope
from tests.kit.deployment import Deployment
from tests.kit.ward import ACTIONS, HOSPITAL

Say = Callable[..., str]


@pytest.fixture(scope="module")
def second_key(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key of a second authority; from here on the trust file demands both."""
    identity = create_identity("authority-2")
    path = tmp_path_factory.mktemp("second") / "authority.key"
    save_identity(path, identity)
    file = trust_path(deployment.settings)
    trust = load_trust(file)
    both = {**trust.authorities, "authority-2": identity.public_key}
    file.write_text(replace(trust, authorities=both, authority_threshold=2).to_json())
    return path


@pytest.fixture
def say(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Say:
    """`attestream policy …`, or of another group; returns what it prints, with the error where it fails."""
    settings = deployment.settings
    for name in ("data_dir", "log_name", "bootstrap_servers", "partitions"):
        monkeypatch.setenv(f"ATTESTREAM_{name.upper()}", str(getattr(settings, name)))

    def said(*words: object, code: int = 0) -> str:
        first, *rest = map(str, words)
        group = first.split() if " " in first else ["policy", first]
        result = CliRunner().invoke(build(group[0]), [*group, *rest])
        assert result.exit_code == code, (result.output, result.exception)
        return result.output + str(result.exception or "")

    return said


@pytest.fixture
def published(deployment: Deployment) -> Callable[[], list[str]]:
    """Names of the documents in force, read anew."""

    def names() -> list[str]:
        authority = PolicyAuthority(deployment.settings)
        try:
            return [each.name for each in authority.table.all_published() if each.document]
        finally:
            authority.close()

    return names


def written(document: Path, text: str) -> Path:
    document.write_text(text)
    document.with_suffix(".cedarschema").write_text(ACTIONS)
    return document


def test_one_signature_is_not_enough_and_two_are(
    deployment: Deployment, second_key: Path, say: Say, published: Callable[[], list[str]], tmp_path: Path
) -> None:
    document, entry = written(tmp_path / "night.cedar", HOSPITAL), tmp_path / "night.entry"
    assert "signed by authority-1" in say("publish", document, "--out", entry)
    high = clients.end_offsets(clients.admin(deployment.settings), [(POLICIES, 0)])
    assert "1 authorities signed, 2 must" in say("entry submit", entry, code=1)
    assert clients.end_offsets(clients.admin(deployment.settings), [(POLICIES, 0)]) == high
    shown = say("entry sign", entry, "--key", second_key)
    assert "PUBLISH night version 1" in shown
    assert '@id("ward-care")' in shown
    assert "signed by authority-1, authority-2" in shown
    say("entry sign", entry, "--key", second_key)  # twice is once
    assert len(decode_envelope(entry.read_bytes()).signatures) == 2
    assert "night: version 1 is taken" in say("entry submit", entry)
    assert published() == ["night"]
    assert "is taken already" in say("entry submit", entry, code=1)
    assert "signed by authority-1" in say("withdraw", "night", "--out", entry)
    say("entry sign", entry, "--key", second_key)
    assert "night: version 2 is taken" in say("entry submit", entry)
    assert published() == []


def test_a_stranger_does_not_sign_and_bytes_that_are_no_entry_are_named(
    second_key: Path, say: Say, tmp_path: Path
) -> None:
    stranger, entry = tmp_path / "stranger.key", tmp_path / "x.entry"
    save_identity(stranger, create_identity("authority-2"))
    document = written(tmp_path / "day.cedar", '@id("none") forbid (principal, action, resource);')
    say("publish", document, "--out", entry)
    before = entry.read_bytes()
    assert "is not an authority" in say("entry sign", entry, "--key", stranger, code=1)
    assert entry.read_bytes() == before
    for broken in (b"", before[:-1], before + b"x", b"\xc3\x01" + bytes(100)):
        entry.write_bytes(broken)
        assert str(entry) in say("entry sign", entry, code=1)
        assert str(entry) in say("entry submit", entry, code=1)
        assert str(entry) in say("entry show", entry, code=1)


def test_what_a_signer_sees_cannot_be_painted_over(second_key: Path, say: Say, tmp_path: Path) -> None:
    text = '// \x1b[2J\n@id("none") forbid (principal, action, resource);'
    document, entry = written(tmp_path / "red.cedar", text), tmp_path / "red.entry"
    say("publish", document, "--out", entry)
    shown = say("entry sign", entry)
    assert "\x1b" not in shown
    assert "forbid" in shown
