"""The shipped alert rules speak of metrics that exist."""

import re
from pathlib import Path

from prometheus_client import REGISTRY

import pipeline.metrics
import pipeline.stage

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "attestream.rules.yml"


def test_every_metric_in_the_rules_exists() -> None:
    named = set(re.findall(r"attestream_[a-z_]+", RULES.read_text()))
    known = set()
    for family in REGISTRY.collect():
        known |= {family.name, f"{family.name}_total", f"{family.name}_bucket"}
    assert named
    assert named <= known
    assert pipeline.metrics.SHARDS_STOPPED
