"""The AsyncAPI CLI takes the document of all topics as it is, and none that is broken."""

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline import asyncapi
from tests.conformance.processes import ask
from tests.conformance.tally import Tally
from tests.kit.regenerate_formats import ASYNCAPI

TOOL = "asyncapi validate"
ENVIRONMENT = {**os.environ, "CI": "true"}
"""Else it tells its makers of each run."""
Json = dict[str, Any]


def _without_action(document: Json) -> None:
    del document["operations"]["send-alerts"]["action"]


def _dangling(document: Json) -> None:
    document["channels"]["alerts"]["messages"]["record"]["$ref"] = "#/components/messages/nothing"


def _not_avro(document: Json) -> None:
    document["components"]["messages"]["device-findings"]["payload"]["schema"]["type"] = "no such type"


def _no_partitions(document: Json) -> None:
    document["channels"]["alerts"]["bindings"]["kafka"]["partitions"] = 0


BROKEN: tuple[Callable[[Json], None], ...] = (_without_action, _dangling, _not_avro, _no_partitions)


def check(program: str, folder: Path, tally: Tally) -> None:
    """Validate what the docs hold, and broken copies of it."""
    folder.mkdir()
    for what, text, is_good in _documents():
        file = folder / "asyncapi.json"
        file.write_text(text)
        answer = ask([program, "validate", str(file)], cwd=folder, env=ENVIRONMENT)
        # A program that fails for another reason refuses nothing.
        refused = answer.code == 1 and "have governance issues" in answer.output
        tally.check(TOOL, what, answer.code == 0 if is_good else refused, answer.output)


def _documents() -> Iterator[tuple[str, str, bool]]:
    yield "the document of all topics", ASYNCAPI.read_text(encoding="utf-8"), True
    for breaks in BROKEN:
        document = copy.deepcopy(asyncapi.document())
        breaks(document)
        yield breaks.__name__.strip("_"), json.dumps(document, indent=2), False
