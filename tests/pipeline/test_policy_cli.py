"""`attestream policy` without a broker: checking and testing documents."""

from pathlib import Path

from typer.testing import CliRunner

from pipeline.cli.main import build
from processors.detect import DetectConfig, Overrides
from tests.kit.ward import ACTIONS, HOSPITAL, shipped


def said(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(build("policy"), ["policy", *words])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output + str(result.exception or "")


def test_check_lists_what_it_compiled() -> None:
    assert "permit hospital/pump-override: approvals 2 of charge_nurse,pharmacist,physician" in said(
        "check", "hospital"
    )


def test_check_and_test_tell_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "mine.cedar"
    assert "expected a file NAME.cedar" in said("check", str(tmp_path / "mine.txt"), code=1)
    assert "No such file" in said("check", str(file), code=1)
    file.write_text("permit (")
    assert "mine: " in said("check", str(file), code=1)
    file.write_text(HOSPITAL.replace('Role::"', 'Role::"'))
    file.with_suffix(".cedarschema").write_text(ACTIONS)
    assert "permit mine/ward-care" in said("check", str(file))
    cases = tmp_path / "mine.cases.toml"
    cases.write_text(shipped("hospital.cases.toml").replace('expect = "deny"', 'expect = "permit"', 1))
    output = said("test", str(file), code=1)
    assert "FAIL off her ward: deny, no_permit (no policy permits it)" in output
    assert "11 of 12 as expected" in output
    cases.write_text(shipped("hospital.cases.toml"))
    assert "12 of 12 as expected" in said("test", str(file), str(cases))


def test_the_documents_of_one_check_must_fit_together(tmp_path: Path) -> None:
    file = tmp_path / "other.cedar"
    file.write_text('@id("a") permit (principal, action == Action::"login", resource);')
    assert "action" in said("check", str(file), code=1)
    assert "permit other/a" in said("check", str(file), "hospital")


LIMITS = """
[ward.nursery.signal.147842]
low = 40.0
high = 320.0

[device."did:key:z6Mk".signal.147842]
stuck_after = 90
"""


def test_limits_of_wards_and_devices_are_checked_and_their_digests_told(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(LIMITS)
    overrides = Overrides.parse(LIMITS, DetectConfig.default())
    nursery, own, both = (
        overrides.config_of(device, ward).digest
        for device, ward in (("", "nursery"), ("did:key:z6Mk", ""), ("did:key:z6Mk", "nursery"))
    )
    output = said("check", str(file))
    assert f"ward 'nursery': config {nursery}" in output
    assert f"device 'did:key:z6Mk': config {own}, in no such ward" in output
    assert both not in output
    assert both in said("check", str(file), "hospital", "--device", "did:key:z6Mk", "--ward", "nursery")
    assert DetectConfig.default().digest in said("check", str(file), "--ward", "ICU-2")


def test_limits_at_fault_and_questions_that_make_no_sense_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(LIMITS.replace("high = 320.0", ""))
    assert "detectors.toml: [ward.nursery.signal.147842] low and high come together" in said(
        "check", str(file), code=1
    )
    file.write_text(LIMITS.replace("stuck_after", "stuck_aftr"))
    # Refused before anybody asks Kafka.
    for command in ("check", "publish"):
        assert "[signal.147842] has unknown fields ['stuck_aftr']" in said(command, str(file), code=1)
    file.write_text(LIMITS)
    assert "one document at a time" in said("check", str(file), str(file), code=1)
    assert "NAME.toml" in said("check", "hospital", "--ward", "ICU-2", code=1)
    assert "cases test policies" in said("test", str(file), code=1)
    assert "is named detectors.toml, not night" in said("publish", str(file), "--name", "night", code=1)
    assert "in TOML" in said("publish", "hospital", "--name", "detectors.toml", code=1)
    file.write_bytes(b"\xff")
    assert "mine.toml" in said("check", str(file), code=1)
