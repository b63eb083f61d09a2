"""The configuration of the profile's detectors: what ships is sound, what is wrong is named."""

import hashlib
from importlib import resources

import pytest

from processors.access.profile import ProfileConfig
from processors.detect.errors import ConfigError
from tests.kit.ward import ACTIONS

TEXT = resources.files("processors.access.profile").joinpath("defaults.toml").read_text(encoding="utf-8")


def test_the_defaults_cite_their_file_and_speak_of_actions_that_exist() -> None:
    config = ProfileConfig.default()
    assert config.digest == "sha256:" + hashlib.sha256(TEXT.encode()).hexdigest()
    assert all(f'"{action}"' in ACTIONS for action in config.export.actions)
    assert config.dormant.after_us == 90 * 86_400 * 1_000_000


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[mass_export]", "[mass_export", "not TOML"),
        ("[mass_export]", "[other]", r"table \[mass_export\] is missing"),
        ("device_limit = 6", "device_limit = 65", r"\[privilege_probing\] device_limit .* 1 to 64"),
        ("action_limit = 4", "action_limit = 0", r"\[privilege_probing\] action_limit"),
        ("window_s = 600.0", "window_s = 0.0", r"\[privilege_probing\] window_s must be above 0"),
        ('"no_permit", ', '"no_permission", ', "'no_permission' is no reason of a denial"),
        ('"no_permit", ', '"policy", ', "'policy' is no reason of a denial"),
        ("grace_s = 1800.0", "grace_s = 7200.0", r"\[off_shift_access\] far_s must be above grace_s"),
        ("ward_s = 60.0", "ward_s = nan", r"\[impossible_travel\] ward_s must be a finite number"),
        ("site_s = 600.0", "sites_s = 600.0", r"\[impossible_travel\] site_s must be a finite number"),
        ("quiet_s = 86400.0", "quiet_s = 7776000.0", r"\[dormant_credential\] after_s must be above quiet_s"),
        ('actions = ["export"]', "actions = []", r"\[mass_export\] actions must be a list of texts"),
        ('actions = ["export"]', 'actions = "export"', r"\[mass_export\] actions must be a list of texts"),
        ("limit = 10 ", "limit = 1.5 ", r"\[mass_export\] limit must be a whole number"),
        ("multiple = 5.0", "multiple = 1.0", r"\[mass_export\] multiple must be above 1"),
        ("multiple = 5.0", "multiple = 5.0\nfactor = 2", r"\[mass_export\] has unknown fields \['factor'\]"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=message):
        ProfileConfig.parse(TEXT.replace(old, new, 1))
