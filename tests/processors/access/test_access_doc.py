"""docs/access.md tells every reason and every annotation, in the words of the code."""

import ast
import itertools
from pathlib import Path

from processors.access import conditions
from schemas import decisions
from schemas.decisions import DecisionReason

PAGE = (Path(__file__).parents[3] / "docs" / "access.md").read_text(encoding="utf-8")
PERMITS = {DecisionReason.POLICY, DecisionReason.BREAK_GLASS}


def test_every_reason_is_told_in_its_own_words() -> None:
    module = ast.parse(Path(decisions.__file__).read_text(encoding="utf-8"))
    body = next(n for n in module.body if isinstance(n, ast.ClassDef) and n.name == "DecisionReason").body
    said = [
        (DecisionReason(str(member.value.value)), str(text.value.value))
        for member, text in itertools.pairwise(body)
        if isinstance(member, ast.Assign)
        and isinstance(member.value, ast.Constant)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    ]
    assert [reason for reason, _ in said] == list(DecisionReason)
    for reason, text in said:
        assert f"| `{reason}` | {'permit' if reason in PERMITS else 'deny'} | {text} |" in PAGE


def test_every_annotation_is_told() -> None:
    for name in conditions._KNOWN:
        assert f'`@{name}("' in PAGE
