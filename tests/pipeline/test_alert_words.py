"""`attestream silence`, `alerts` and `entry` on a real Kafka: what people say of alerts, and see."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import build
from pipeline.controls import ControlFollower
from pipeline.topics import ALERTS
from pipeline.trust import load_trust, trust_path
from processors.correlate.controls import ControlTable
from processors.ocsf import Reporter, encode, headers
from tests.kit.deployment import Deployment
from tests.kit.noticed import Driven, finding

Say = Callable[..., str]


@pytest.fixture
def say(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Say:
    """A command on this deployment; returns what it prints, with the error where it fails."""
    settings = deployment.settings
    for name in ("data_dir", "log_name", "bootstrap_servers", "partitions"):
        monkeypatch.setenv(f"ATTESTREAM_{name.upper()}", str(getattr(settings, name)))

    def said(command: str, *words: object, code: int = 0) -> str:
        given = [*command.split(), *map(str, words)]
        result = CliRunner().invoke(build(given[0]), given)
        assert result.exit_code == code, (result.output, result.exception)
        return result.output + str(result.exception or "")

    return said


def table_of(deployment: Deployment) -> ControlTable:
    """What everybody reads."""
    follower = ControlFollower(deployment.settings, load_trust(trust_path(deployment.settings)))
    follower.catch_up()
    follower.close()
    return follower.table


def test_a_silence_is_added_listed_and_ended(deployment: Deployment, say: Say) -> None:
    say(
        "silence add night-work --for 2h --ward ICU-2 --rule stuck --rule silence --by Ida --comment",
        "new MRI",
    )
    (found,) = table_of(deployment).silences.values()
    assert (found.wards, found.rules, found.author) == (("ICU-2",), ("stuck", "silence"), "Ida")
    listed = say("silence list")
    assert "night-work: rule stuck or silence, ward ICU-2, up to high, until 20" in listed
    assert "1 silences are in force" in listed
    say("silence end night-work")
    assert "0 silences are in force" in say("silence list")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("silence add x --for 2h", "of everything"),
        ("silence add x --for 31d --rule stuck", "30 days"),
        ("silence add x --for 2w --rule stuck", "expected a number with m, h or d"),
        ("silence add x --for 0m --rule stuck", "expected a number"),
        ("silence add x --for 1h --rule stuck --severity awful", "choose from informational, low"),
        ("silence add X! --for 1h --rule stuck", "no silence"),
        ("silence end never", "not in force"),
        ("alerts ack 12", "no alert"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(say: Say, words: str, why: str) -> None:
    assert why in say(words, code=1)


def test_an_entry_may_be_kept_for_others_to_sign(deployment: Deployment, say: Say, tmp_path: Path) -> None:
    entry = tmp_path / "silence.entry"
    before = table_of(deployment).offset
    assert "signed by authority-1" in say("silence add later --for 1h --rule stuck --out", entry)
    assert table_of(deployment).offset == before, "nothing is published"
    shown = say("entry show", entry)
    assert "SILENCE silence/later version 1" in shown
    assert "rules: stuck" in shown
    assert "version 1 is taken" in say("entry submit", entry)
    assert "later" in table_of(deployment).silences
    assert "is taken already" in say("entry submit", entry, code=1)
    say("silence end later")


def test_what_is_open_is_listed_taken_up_and_resolved(deployment: Deployment, say: Say) -> None:
    driven, reporter = Driven(), Reporter(deployment.settings.log_name, "0")
    driven.add(finding(1, cause="x", rule="stuck", device="did:key:bed-7"))
    (alert,) = driven.wait(1)
    deployment.publish(
        ALERTS, alert.uid.encode(), encode(alert, reporter), 0, headers(alert, reporter, bytes(16))
    )
    listed = say("alerts open")
    assert alert.uid in listed
    assert "bed-7" in listed
    say("alerts ack", alert.uid, "--comment", "looking")
    say("alerts resolve", alert.uid)
    said = [each.action for each in table_of(deployment).acts if each.uid == alert.uid]
    assert said == ["ACKNOWLEDGE", "RESOLVE"]
