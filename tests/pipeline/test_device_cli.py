"""`attestream device rotate` on a broker: a new key, and attributes that change with it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import build
from pipeline.identity import load_identity
from tests.kit.deployment import Deployment


def test_a_device_takes_another_ward_with_a_new_key_and_keeps_the_rest(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data_dir", "log_name", "bootstrap_servers", "partitions"):
        monkeypatch.setenv(f"ATTESTREAM_{name.upper()}", str(getattr(deployment.settings, name)))
    file = tmp_path / "bed7.key.json"

    def attributes_after(*words: object) -> Mapping[str, str]:
        result = CliRunner().invoke(build("device"), ["device", *map(str, words)])
        assert result.exit_code == 0, (result.output, result.exception)
        subject = deployment.authority.refresh().subject(load_identity(file).did)
        assert subject is not None
        return subject.attributes

    begun = {"name": "bed7", "kind": "monitor", "ward": "ICU-2"}
    assert (
        attributes_after("enroll", "bed7", "--key-dir", tmp_path, "-a", "kind=monitor", "-a", "ward=ICU-2")
        == begun
    )
    assert attributes_after("rotate", file) == begun
    assert attributes_after("rotate", file, "-a", "ward=nursery") == {**begun, "ward": "nursery"}
    assert load_identity(file).key_id == "k3"
