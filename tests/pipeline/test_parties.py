"""The parties file in its place: signed by authorities, in force by version, secrets where they are named."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import build
from pipeline.identity import create_identity, save_identity
from pipeline.parties import (
    PartiesError,
    believe_parties,
    enforce,
    parties_path,
    secret_of,
    sign_parties,
)
from pipeline.settings import Settings, UsageError
from pipeline.trust import authority_identity, init_local
from schemas.errors import FormatError
from schemas.partyoutputs import SecretRef


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path, log_name="hospital.example")
    init_local(made)
    return made


def source(version: int = 1, **changes: Any) -> bytes:
    party = {"name": "soc", "filter": {}, "outputs": []}
    return json.dumps(
        {"log_name": "hospital.example", "version": version, "parties": [party], **changes}
    ).encode()


def signed(settings: Settings, data: bytes) -> bytes:
    return sign_parties(settings, data, authority_identity(settings))[0]


def test_versions_only_rise(settings: Settings) -> None:
    first, third = signed(settings, source(1)), signed(settings, source(3))
    enforce(settings, first)
    assert believe_parties(settings).version == 1
    enforce(settings, third)
    assert believe_parties(settings).version == 3
    with pytest.raises(PartiesError, match="version 1, 3 was in force"):
        enforce(settings, first)
    # Also where somebody puts the old file in place by hand.
    parties_path(settings).write_bytes(first)
    with pytest.raises(PartiesError, match="version 1, 3 was in force"):
        believe_parties(settings)
    parties_path(settings).write_bytes(third)
    assert believe_parties(settings).version == 3


def test_a_change_needs_a_new_version(settings: Settings) -> None:
    enforce(settings, signed(settings, source(1)))
    believe_parties(settings)
    with pytest.raises(PartiesError, match="another one of version 1"):
        enforce(settings, signed(settings, source(1, parties=[])))


def test_a_damaged_memory_of_the_version_is_told_and_not_passed_over(settings: Settings) -> None:
    enforce(settings, signed(settings, source(1)))
    believe_parties(settings)
    (settings.data_dir / "state" / "parties.json").write_text("{")
    with pytest.raises(PartiesError, match="damaged"):
        believe_parties(settings)


def test_only_an_authority_signs(settings: Settings) -> None:
    with pytest.raises(UsageError, match="no authority"):
        sign_parties(settings, source(), create_identity("somebody"))


def test_signing_again_replaces_the_signature(settings: Settings) -> None:
    once = signed(settings, source())
    assert signed(settings, once) == once
    with pytest.raises(FormatError):
        signed(settings, once.replace(b"soc", b"s/c"))


def test_a_secret_comes_from_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "s3cret")
    assert secret_of(SecretRef(env="HOOK")) == "s3cret"
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    file.chmod(0o600)
    assert secret_of(SecretRef(file=str(file))) == "s3cret"
    file.chmod(0o604)
    with pytest.raises(PartiesError, match="everybody can read it") as told:
        secret_of(SecretRef(file=str(file)))
    assert "s3cret" not in str(told.value)
    for missing in (SecretRef(env="NOT_SET"), SecretRef(file=str(tmp_path / "none"))):
        with pytest.raises(PartiesError):
            secret_of(missing)


def test_the_command_line_checks_signs_and_lists(settings: Settings, tmp_path: Path) -> None:
    def attestream(*words: str) -> tuple[int, str]:
        given = ["party", *words, "--data-dir", str(settings.data_dir)]
        result = CliRunner().invoke(build("party"), given)
        return result.exit_code, result.output + (str(result.exception) if result.exception else "")

    file = tmp_path / "parties.json"
    file.write_bytes(source())
    assert "nobody is subscribed" in attestream("list")[1]
    code, text = attestream("check", str(file))
    assert (code, "not signed" in text) == (0, True)
    save_identity(tmp_path / "other.key.json", create_identity("other"))
    assert "no authority" in attestream("sign", str(file), "--key", str(tmp_path / "other.key.json"))[1]
    assert attestream("sign", str(file))[0] == 0
    assert "soc: informational and above" in attestream("list")[1]
    code, text = attestream("check", str(parties_path(settings)))
    assert "signed as the trust file demands" in text
    file.write_text('{"version": 1}')
    assert "log_name is missing" in attestream("check", str(file))[1]
    assert attestream("check", str(file))[0] != 0
