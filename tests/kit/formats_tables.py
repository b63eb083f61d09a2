"""The tables of docs/formats.md that follow from the code: reasons, signals, schemas, topics."""

import ast
import itertools
from collections.abc import Iterable
from pathlib import Path

from pipeline.topiccontent import CONTENT
from pipeline.topics import ALERTS, DECISIONS, SEALED_TOPICS, TOPICS
from schemas import reasons
from schemas.codec import CODEC, HEADER_SIZE, compiled_in
from schemas.mdc import SIGNALS

_EXPLAINED_IN = {DECISIONS: " ([access.md](access.md))", ALERTS: " ([alerts.md](alerts.md))"}
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
                CONTENT[spec.name].key,
                CONTENT[spec.name].value + _EXPLAINED_IN.get(spec.name, ""),
            )
        )
    return rows


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)
