"""The tables of docs/formats.md that follow from the code: reasons, signals, schemas, topics."""

import ast
import itertools
from collections.abc import Iterable
from pathlib import Path

from pipeline.topics import (
    ACCESS_RAW,
    ALERTS,
    ANCHORS,
    CHECKPOINTS,
    DECISIONS,
    EVENTS,
    FINDINGS,
    INTEGRITY,
    LIFECYCLE_RAW,
    POLICIES,
    REGISTRY,
    REJECTED,
    SEALED_TOPICS,
    TELEMETRY_RAW,
    TOPICS,
    changelog_of,
)
from schemas import reasons
from schemas.codec import CODEC, HEADER_SIZE, compiled_in
from schemas.mdc import SIGNALS

_RAW = ("device id", "signed envelope of {}")
_CHANGELOG = ("device id", "`device_state`, ingest's own")
CONTENT = {
    TELEMETRY_RAW: (_RAW[0], _RAW[1].format("`telemetry`")),
    ACCESS_RAW: (_RAW[0], _RAW[1].format("`access`")),
    LIFECYCLE_RAW: (_RAW[0], _RAW[1].format("`lifecycle`")),
    EVENTS: ("device id", "the raw record's value, untouched"),
    REJECTED: ("the raw record's", "the raw record's value, or its first 4 KiB"),
    FINDINGS: ("device id", "`finding`"),
    INTEGRITY: ("origin", "`finding`"),
    DECISIONS: ("subject", "`decision` ([access.md](access.md))"),
    REGISTRY: ("subject", "signed envelope of `registry_entry`"),
    POLICIES: ("name of the document", "signed envelope of `policy_entry`"),
    ALERTS: ("alert's uid", "OCSF as JSON ([alerts.md](alerts.md))"),
    CHECKPOINTS: ("origin, or `shards`", "signed note"),
    ANCHORS: ("tree size", "`anchor`"),
    **{changelog_of(raw): _CHANGELOG for raw in (TELEMETRY_RAW, ACCESS_RAW, LIFECYCLE_RAW)},
}
_DAY_MS = 86_400_000


def tables() -> dict[str, str]:
    """Every generated table, by name."""
    return {
        "reasons": _table(("reason", "meaning"), ((f"`{value}`", why) for value, why in reason_texts())),
        "signals": _table(
            ("code", "reference id", "name", "unit"),
            ((str(s.code), f"`{s.reference_id}`", s.name, s.unit) for s in SIGNALS),
        ),
        "schemas": _table(("record", "version", "first ten bytes"), _schemas()),
        "topics": _table(("topic", "partitions", "kept", "sealed", "key", "value"), _topics()),
    }


def reason_texts() -> list[tuple[str, str]]:
    """Each reason with its docstring, from the source, in its order."""
    module = ast.parse(Path(reasons.__file__).read_text(encoding="utf-8"))
    body = next(n for n in module.body if isinstance(n, ast.ClassDef) and n.name == "Reason").body
    found = []
    for member, text in itertools.pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(member.value, ast.Constant):
            if not (isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)):
                raise AssertionError(f"line {member.lineno} of the reasons: no docstring")
            found.append((str(member.value.value), " ".join(str(text.value.value).split())))
    return found


def _schemas() -> list[tuple[str, ...]]:
    return [
        (f"`{name}`", str(version), f"`{CODEC.header(name)[:HEADER_SIZE].hex()}`")
        for name, version in sorted(compiled_in())
    ]


def _topics() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for spec in TOPICS:
        kept_ms = int(spec.config.get("retention.ms", "0"))
        kept = "compacted" if not kept_ms else "for ever" if kept_ms < 0 else f"{kept_ms // _DAY_MS} days"
        rows.append(
            (
                f"`{spec.name}`",
                "by device" if spec.by_device else "1",
                kept,
                "yes" if spec.name in SEALED_TOPICS else "",
                *CONTENT[spec.name],
            )
        )
    return rows


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)
