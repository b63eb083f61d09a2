"""IEEE 11073-10101 nomenclature (MDC) of the signals that attestream knows, with their units.

Codes are the 32-bit form, partition * 65536 + term code, as the standard's tables give them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal: code, reference id of the standard, a short column name, unit."""

    code: int
    reference_id: str
    name: str
    unit: str


SIGNALS = (
    Signal(147842, "MDC_ECG_HEART_RATE", "HR", "bpm"),
    Signal(150037, "MDC_PRESS_BLD_ART_ABP_SYS", "ABPSys", "mmHg"),
    Signal(150038, "MDC_PRESS_BLD_ART_ABP_DIA", "ABPDias", "mmHg"),
    Signal(150039, "MDC_PRESS_BLD_ART_ABP_MEAN", "ABPMean", "mmHg"),
    Signal(149514, "MDC_PULS_RATE", "PULSE", "bpm"),
    Signal(151562, "MDC_RESP_RATE", "RESP", "breaths/min"),
    Signal(150456, "MDC_PULS_OXIM_SAT_O2", "SpO2", "%"),
    Signal(150021, "MDC_PRESS_BLD_NONINV_SYS", "NBPSys", "mmHg"),
    Signal(150022, "MDC_PRESS_BLD_NONINV_DIA", "NBPDias", "mmHg"),
    Signal(150023, "MDC_PRESS_BLD_NONINV_MEAN", "NBPMean", "mmHg"),
)
BY_CODE = {signal.code: signal for signal in SIGNALS}
BY_NAME = {signal.name.lower(): signal for signal in SIGNALS}


def label(code: int) -> str:
    """Name a code for a person: the short name, or the number where we do not know it."""
    signal = BY_CODE.get(code)
    return signal.name if signal else f"MDC {code}"
