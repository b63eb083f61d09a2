"""How often chance alone would open a finding: the figures of docs/detectors.md."""

from functools import cache
from math import comb

import pytest

from processors.detect.noiseprints import FAST_US
from processors.samenoise.table import KEY_SIGNS
from schemas.noise import PRINT_SIGNS
from tests.kit.noisy import CONFIG

DEVICES = 100_000
SAME = 0.54
"""How likely two signs of two patients are the same: of the real record's signals the worst, saturation, by
the collision entropy of eight changes in a row, which is 0.888 bits a change."""
PLACES = 1 / 24
"""Share of samples at which a print ends, in the real record."""
SIGNALS = 4
"""That stand for themselves: heart, breath, saturation, arterial pressure."""
LIMITS = CONFIG.same_noise


@cache
def alike(signs: int) -> float:
    """The probability that so many new signs go alike enough, those of the key among them."""
    key = min(signs, KEY_SIGNS)
    rest = signs - key
    few = range(min(rest, LIMITS.differ) + 1)
    return SAME**key * sum(comb(rest, n) * SAME ** (rest - n) * (1 - SAME) ** n for n in few)


@cache
def chains(missing: int, places: float) -> float:
    """How many chains of meetings that bring this many changes are expected after one."""
    if missing <= 0:
        return 1.0
    near = sum(alike(d) * chains(missing - d, places) for d in range(1, PRINT_SIGNS + 1))
    far = LIMITS.gap - PRINT_SIGNS + (SIGNALS - 1) * LIMITS.gap
    return places * (near + far * alike(PRINT_SIGNS) * chains(missing - PRINT_SIGNS, places))


def findings_an_hour(interval_s: float) -> float:
    """Expected by chance in the whole fleet, for devices that report so often."""
    places = PLACES / 4 if interval_s * 1e6 < FAST_US else PLACES
    pairs = DEVICES * (DEVICES - 1) / 2
    distances = 2 * LIMITS.apart_us / 1e6 / interval_s
    first = 3600 / interval_s * SIGNALS * places * alike(PRINT_SIGNS)
    return pairs * distances * first * chains(LIMITS.alike - PRINT_SIGNS, places)


@pytest.mark.parametrize(
    ("interval_s", "documented"), [(1.0, 2.8e-7), (10.0, 2.1e-7), (60.0, 5.9e-9)], ids=str
)
def test_chance_opens_less_than_one_finding_in_a_century(interval_s: float, documented: float) -> None:
    assert findings_an_hour(interval_s) == pytest.approx(documented, rel=0.1)
    assert findings_an_hour(interval_s) * 24 * 365 * 100 < 1


def test_a_print_alone_is_chance() -> None:
    """Why one meeting is no finding: each print is compared with up to 100,000 others."""
    assert alike(PRINT_SIGNS) == pytest.approx(4e-9, rel=0.1)
