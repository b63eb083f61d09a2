"""The detector configuration: what ships is sound, what is wrong is named."""

import hashlib
from importlib import resources

import pytest

from processors.detect import DetectConfig
from processors.detect.errors import ConfigError
from schemas.mdc import BY_NAME, SIGNALS

TEXT = resources.files("processors.detect").joinpath("defaults.toml").read_text(encoding="utf-8")
HR = BY_NAME["hr"].code


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
        ("warm_blocks = 4", "warm_blocks = 0", r"\[blocks\] warm_blocks"),
        ("drift_slack = 4.0", "drift_slack = -1.0", r"\[blocks\] drift_slack must be above 0"),
        ("jitter = true", "jitter = 1", "jitter must be true or false"),
        ('units = ["kPa"]', 'units = ["psi"]', "units must be a list of kPa, mmHg"),
        ("ratio = 1.6", "ratio = 1.0", r"\[reporting\] ratio must be above 1"),
        ('kind = "equal"', 'kind = "same"', r"\[relation.pulse\] kind must be one of equal, mean"),
        ("codes = [149514, 147842]", "codes = [149514, 5]", "codes must be 2 codes that have a"),
        ("ahead_s = 10.0", "ahead_s = 0.0", "ahead_s must be above 0"),
        ("differ = 4", "differ = 13", r"\[same_noise\] differ must be a whole number from 1 to 12"),
        ("alike = 120", "alike = 0", r"\[same_noise\] alike must be a whole number"),
        ("apart_s = 300.0", "apart = 300.0", r"\[same_noise\] has unknown fields \['apart'\]"),
        ("quiet_s = 3600.0", "quiet_s = nan", "quiet_s must be a finite number"),
        ("[fleet]", "[flet]", r"table \[fleet\] is missing"),
        ("devices = 4 ", "devices = 501 ", r"\[fleet\] devices must be a whole number from 1 to 500"),
        ("share = 0.1", "share = 1.1", r"\[fleet\] share must be from 0 to 1"),
        ("share = 0.1", "shares = 0.1", r"\[fleet\] has unknown fields \['shares'\]"),
        ("window_s = 14400.0", "window_s = inf", r"\[fleet\] window_s must be a finite number"),
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


def test_what_a_toml_reader_stumbles_over_is_one_clear_error() -> None:
    for text in ("x = " + "9" * 5000, "x = " + "[" * 20_000, "x = 2026-13-45"):
        with pytest.raises(ConfigError, match="not TOML"):
            DetectConfig.parse(text)


def test_what_ships_is_one_object() -> None:
    assert DetectConfig.default() is DetectConfig.default()
