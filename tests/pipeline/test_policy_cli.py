"""`attestream policy` without a broker: checking and testing documents."""

from pathlib import Path

from typer.testing import CliRunner

from pipeline.cli.main import build
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
