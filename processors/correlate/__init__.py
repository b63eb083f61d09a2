"""CORRELATE: findings, rejections and denials become alerts that a person can follow.

`correlator` tells the story; `groups` says what belongs together, `cases` remembers what was told and is not
over, `muting` what is held back, `telling` writes the messages, `restoring` reads them again after a restart.
"""

from processors.correlate.config import CorrelateConfig
from processors.correlate.correlator import Correlator, Step

__all__ = ["CorrelateConfig", "Correlator", "Step"]
