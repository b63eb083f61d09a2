"""The detector configuration: what ships is sound, what is wrong is named."""

import hashlib
from importlib import resources

import pytest

from processors.detect import DetectConfig
from processors.detect.errors import ConfigError
from schemas.mdc import SIGNALS

TEXT = resources.files("processors.detect").joinpath("defaults.toml").read_text(encoding="utf-8")


def test_the_defaults_cover_every_signal_and_cite_their_file() -> None:
    config = DetectConfig.default()
    assert set(config.signals) == {signal.code for signal in SIGNALS}
    assert config.digest == "sha256:" + hashlib.sha256(TEXT.encode()).hexdigest()


def test_another_text_has_another_digest() -> None:
    assert DetectConfig.parse(TEXT + "\n").digest != DetectConfig.default().digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[telemetry]", "[telemetry", "not TOML"),
        ("[telemetry]", "[other]", r"table \[telemetry\] is missing"),
        ("clear_after = 3", "clear_after = 0", r"\[telemetry\] clear_after must be a whole number"),
        (
            "low = 15.0\nhigh = 300.0",
            "low = 300.0\nhigh = 15.0",
            r"\[signal.147842\] low 300.0 must be below",
        ),
        ("low = 15.0", 'low = "15"', r"\[signal.147842\] low must be a finite number"),
        ("low = 15.0", "low = nan", "finite"),
        ("low = 15.0", "low = true", "finite"),
        ("off = [0.0, 0.0]", "off = 0.0", "off must be two numbers"),
        ("off = [0.0, 0.0]", "off = [1.0, 0.0]", "off must not fall"),
        ("stuck_after = 12", "stuck_after = 1.5", "stuck_after must be a whole number"),
        ("stuck_after = 12", "stuck_aftr = 12", r"unknown fields \['stuck_aftr'\]"),
        ("[signal.147842]", "[signal.HR]", "not an MDC code"),
        ("subject_limit = 5", "subject_limit = 65", "1 to 64"),
        ("window_s = 300.0", "window_s = 0.0", "window_s must be above 0"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=message):
        DetectConfig.parse(TEXT.replace(old, new, 1))


def test_too_many_signals_are_refused() -> None:
    many = "\n".join(f"[signal.{code}]\nlow = 1\nhigh = 2" for code in range(1, 514))
    with pytest.raises(ConfigError, match="513 codes"):
        DetectConfig.parse(many)
