"""Limits of wards and devices on a broker: published, at work without a restart, cited, and withdrawn."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline import topics
from pipeline.authority import NewKey
from pipeline.cli.main import build
from pipeline.entries import EntryWriteError
from pipeline.identity import create_identity
from pipeline.policies import PolicyAuthority
from processors.access.policies import OVERRIDES
from processors.detect import DetectConfig
from schemas.mdc import BY_NAME
from schemas.records import decode_finding
from tests.kit.deployment import Deployment, Device, wait_for

HR = BY_NAME["hr"].code
NURSERY = f"[ward.nursery.signal.{HR}]\nlow = 15.0\nhigh = 60.0\n"
"""No heart rate below is normal there."""
DEFAULT = DetectConfig.default().digest
_tenths = itertools.cycle(range(10))

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def policies(deployment: Deployment) -> Iterator[PolicyAuthority]:
    made = PolicyAuthority(deployment.settings)
    yield made
    made.close()


def beat(deployment: Deployment, device: Device) -> None:
    """Send a heart rate of 70 and a bit, and wait until it is judged."""
    value = device.telemetry(codes=[HR], values=[70.0 + next(_tenths) / 10])
    assert deployment.verdicts([deployment.send(device, value)]) == ["accepted"]


def told(deployment: Deployment, device: Device) -> list[dict[str, Any]]:
    """Findings about the range of a device's heart rate."""
    found = [decode_finding(record.value or b"") for record in deployment.read(topics.FINDINGS)]
    return [each for each in found if each["device_id"] == device.did and each["rule"] == "bounds"]


def until_told(deployment: Deployment, device: Device, status: str) -> dict[str, Any]:
    """Let a device beat until its newest finding has a status; a change of a table is on its way."""

    def newest() -> dict[str, Any] | None:
        beat(deployment, device)
        found = told(deployment, device)
        return found[-1] if found and found[-1]["status"] == status else None

    return wait_for(newest, f"a finding that is {status}")


def config_by_hand(tmp_path: Path, text: str, device: str, ward: str) -> str:
    """Compute what findings cite from the text of the document."""
    file = tmp_path / "copy.toml"
    file.write_text(text)
    words = ["policy", "check", str(file), "--device", device, "--ward", ward]
    result = CliRunner().invoke(build("policy"), words)
    assert result.exit_code == 0, result.output
    return result.output.strip().rpartition(" ")[2]


def test_limits_of_a_ward_hold_there_only_until_they_are_withdrawn(
    deployment: Deployment, policies: PolicyAuthority, tmp_path: Path
) -> None:
    small, grown = deployment.enroll(ward="nursery"), deployment.enroll(ward="ICU-2")
    with deployment.ingesting():
        beat(deployment, small)
        beat(deployment, grown)
        assert told(deployment, small) == []
        policies.publish(OVERRIDES, NURSERY, "")
        opened = until_told(deployment, small, "OPENED")
        cited = opened["parameters"]["config"]
        assert cited == config_by_hand(tmp_path, NURSERY, small.did, "nursery") != DEFAULT
        beat(deployment, grown)
        assert told(deployment, grown) == []
    # A worker that starts anew goes on with the same.
    with deployment.ingesting():
        lasting = until_told(deployment, small, "UPDATED")
        assert (lasting["id"], lasting["parameters"]["config"]) == (opened["id"], cited)
        policies.withdraw(OVERRIDES)
        cleared = until_told(deployment, small, "CLEARED")
        assert (cleared["id"], cleared["parameters"]["config"]) == (opened["id"], DEFAULT)
        beat(deployment, small)
        assert told(deployment, small)[-1] == cleared


def test_a_device_that_moves_to_another_ward_is_judged_by_that_ones_limits(
    deployment: Deployment, policies: PolicyAuthority
) -> None:
    device = deployment.enroll(ward="ICU-2")
    own = f'[device."{device.did}".telemetry]\nclear_after = 2\n'
    with deployment.ingesting():
        policies.publish(OVERRIDES, NURSERY + own, "")
        beat(deployment, device)
        assert told(deployment, device) == []
        device.identity = replace(create_identity("k2"), did=device.did)
        deployment.authority.refresh()
        key = NewKey("k2", device.identity.public_key)
        deployment.authority.rotate(device.did, key, {"ward": "nursery"})
        opened = until_told(deployment, device, "OPENED")
        overrides = policies.table.overrides
        assert overrides is not None
        in_force = overrides.config_of(device.did, "nursery")
        assert opened["parameters"]["config"] == in_force.digest
        assert opened["parameters"]["clear_after"] == "2"
    policies.withdraw(OVERRIDES)


def test_the_commands_publish_list_and_withdraw_them(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data_dir", "log_name", "bootstrap_servers", "partitions"):
        monkeypatch.setenv(f"ATTESTREAM_{name.upper()}", str(getattr(deployment.settings, name)))

    def said(*words: object) -> str:
        result = CliRunner().invoke(build("policy"), ["policy", *map(str, words)])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    file = tmp_path / "limits.toml"
    file.write_text(NURSERY)
    assert "detectors.toml is in force, version" in said("publish", file)
    digest = config_by_hand(tmp_path, NURSERY, "", "nursery")
    assert f"ward 'nursery': config {digest}" in said("list")
    assert "policy digest none" in said("list")
    assert "detectors.toml is withdrawn" in said("withdraw", OVERRIDES)
    assert "(withdrawn)" in said("list")
    assert digest not in said("list")


def test_a_document_at_fault_is_not_taken_and_reported(
    deployment: Deployment, policies: PolicyAuthority
) -> None:
    before = policies.table.overrides
    with pytest.raises(EntryWriteError, match=r"ward.a: \[signal.147842\] has unknown fields \['hgh'\]"):
        policies.publish(OVERRIDES, f"[ward.a.signal.{HR}]\nhgh = 1", "")
    assert policies.table.overrides is before

    def reported() -> list[str]:
        found = [decode_finding(record.value or b"") for record in deployment.read(topics.FINDINGS)]
        return [each["explanation"] for each in found if each["rule"] == "policy_rejected"]

    with deployment.ingesting():
        assert "unknown fields" in wait_for(reported, "the finding")[0]
