"""The telemetry rules: their numbers in a state's bytes, their names, and how they speak to people.

A text tells a nurse what to look at first and an analyst what it may mean; it names limits, never a
measured value, since findings are kept for good and readings are not.
"""

from dataclasses import dataclass

from schemas.records import Severity

BOUNDS, STUCK, RATE, UNIT, STEP, DRIFT, NOISE, QUANTISED, SMOOTH, JITTER, IMPLAUSIBLE = range(11)
CLOCK, REPORTING, REPLAY = 11, 12, 13
RULES = 14
DEVICE = 0
"""In place of an MDC code: the rule is about the device, not about one signal."""


@dataclass(frozen=True, slots=True)
class Telling:
    """How a rule is told; `opening` and `over` take the fields signal, limit and other."""

    name: str
    opens_as: Severity
    opening: str
    over: str


TELLINGS = {
    BOUNDS: Telling("bounds", Severity.MEDIUM, "", "{signal} is no longer out of range"),
    STUCK: Telling("stuck", Severity.LOW, "", "{signal} is no longer stuck"),
    RATE: Telling(
        "rate_of_change",
        Severity.LOW,
        "{signal} changed by more than {limit} from one report to the next, faster than a true value does: "
        "a loose or moved sensor, or readings of another origin",
        "{signal} changes no faster than a true value again",
    ),
    UNIT: Telling(
        "unit_confusion",
        Severity.HIGH,
        "{signal} reports what its earlier level would be in another unit ({limit}): check the device's "
        "unit setting before anyone acts on the number",
        "{signal} is no longer as in another unit",
    ),
    STEP: Telling(
        "step",
        Severity.LOW,
        "{signal} moved to another level at once and stayed, by more than {limit}: compare with the patient; "
        "a change of sensor, patient or origin looks like this too",
        "{signal} keeps its level",
    ),
    DRIFT: Telling(
        "drift",
        Severity.LOW,
        "{signal} keeps moving away from its level of the hours before, further than its usual ups and "
        "downs: compare with a second measurement; a failing sensor or a value that is pulled away slowly "
        "looks like this",
        "{signal} has a steady level again",
    ),
    NOISE: Telling(
        "noise_burst",
        Severity.LOW,
        "{signal} jumps about more than {limit} times as much as is usual for it: check sensor and cable",
        "{signal} is as calm as usual again",
    ),
    QUANTISED: Telling(
        "quantised",
        Severity.LOW,
        "{signal} takes values of a coarse grid only, where it took finer ones before: another algorithm, "
        "another firmware, or values that were made",
        "{signal} takes values as fine as before",
    ),
    SMOOTH: Telling(
        "interpolation",
        Severity.MEDIUM,
        "{signal} runs along straight lines, as no measured value does: true readings may have been left "
        "out and filled in",
        "{signal} varies from report to report again",
    ),
    JITTER: Telling(
        "frozen_jitter",
        Severity.MEDIUM,
        "{signal} only jitters around one unmoving level, as no patient does: a frozen value with noise "
        "added looks like this",
        "{signal} moves as a measured value again",
    ),
    IMPLAUSIBLE: Telling(
        "plausibility",
        Severity.MEDIUM,
        "{signal} and {other} contradict each other, though they measure the same heart or vessel: one of "
        "the two is wrong",
        "{signal} and {other} agree again",
    ),
    CLOCK: Telling(
        "clock",
        Severity.LOW,
        "the device's clock {other}: times in its events are not to be trusted until it is set",
        "the device's clock runs with the broker's again",
    ),
    REPORTING: Telling(
        "reporting_rate",
        Severity.LOW,
        "the device reports {other} than before, for longer than a moment: a changed setting, or events "
        "that are added or left out",
        "the device's reporting rate is steady again",
    ),
    REPLAY: Telling(
        "replay",
        Severity.HIGH,
        "several reports in a row repeat, in every value, reports that this device sent {other} ago: old "
        "readings under fresh signatures",
        "the device's reports are new ones again",
    ),
}
