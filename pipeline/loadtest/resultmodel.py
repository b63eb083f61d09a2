"""The parts of results that a page is made of, checked: a result may come from anywhere."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from loadtests import results
from loadtests.results import ResultError


def _finite(value: float) -> float:
    if not math.isfinite(value) or abs(value) > 1e15:
        message = "no number of a measurement"
        raise ValueError(message)
    return value


Number = Annotated[float, AfterValidator(_finite)]
Text = Annotated[str, Field(max_length=1000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class LegResult(_Part):
    """One leg, in ms."""

    title: Text
    count: int
    avg: Number | None = None
    p50: Number | None = Field(default=None, alias="50pct")
    p95: Number | None = Field(default=None, alias="95pct")
    p99: Number | None = Field(default=None, alias="99pct")
    p999: Number | None = Field(default=None, alias="999pct")
    most: Number | None = Field(default=None, alias="max")
    missing: int = 0
    not_measured: Text = ""


class StageResult(_Part):
    """One process in the steady part of a run."""

    cores: Number | None
    cpu_us: Number | None
    of: Text
    rss_mib: Number


class ProcessResult(_Part):
    """One process over time."""

    at_s: Sequence[Number]
    cores: Sequence[Number]
    rss_mib: Sequence[Number]


class TrialResult(_Part):
    """One rate of a search."""

    rate: Number
    seconds: Number
    p99_ms: Number
    lag: int
    sustained: bool
    why_not: Text = ""


class SearchResult(_Part):
    """A search for the highest rate."""

    rate: Number | None
    trials: Sequence[TrialResult]
    objective_ms: Number


class Result(_Part):
    """One run."""

    workload: Text = ""
    began: Number
    seconds: Number
    target_rate: Number
    rate: Number
    summary: Text
    ledger: Mapping[str, Any]
    legs: Mapping[str, LegResult]
    quantiles: Mapping[str, Mapping[str, Number]]
    stages: Mapping[str, StageResult]
    lag: Sequence[tuple[Number, int, int | None]]
    processes: Mapping[str, ProcessResult]
    machine: Mapping[str, Any]
    stack: Mapping[str, Any] = Field(default_factory=dict)
    corpus: Mapping[str, Any] = Field(default_factory=dict)
    find_max: SearchResult | None = None


def checked(document: Mapping[str, Any], name: str) -> Result:
    """Check a result document; raises ResultError, naming where it comes from."""
    try:
        return Result.model_validate({**document["attestream"], "workload": document.get("workload", "")})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ResultError(f"{name} is not the result of a load test: {where}: {first['msg']}") from error


def read(path: Path) -> Result:
    """Read a result from a file or the folder of one; raises ResultError."""
    file = path / "result.json" if path.is_dir() else path
    return checked(results.load(file), str(file))
