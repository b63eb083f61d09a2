"""Writes the labelled blocks and the tables of docs/formats.md anew, and docs/asyncapi.json.

Run `python -m tests.kit.regenerate_formats` in the project's folder. Read the difference before it is
committed: a changed byte is a changed format.
"""

import re
from pathlib import Path

from pipeline import asyncapi
from tests.kit.formats_example import blocks
from tests.kit.formats_tables import tables
from tests.kit.spelled import Block

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT, ASYNCAPI = DOCS / "formats.md", DOCS / "asyncapi.json"
BLOCK = re.compile(
    r"^```(?P<language>[a-z]+) (?P<label>[a-z0-9-]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
TABLE = re.compile(
    r"^<!-- table: (?P<name>[a-z]+) -->\n(?P<text>.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL
)


def documented_blocks(document: str) -> dict[str, Block]:
    """Every labelled block as the document has it."""
    return {found["label"]: Block(found["language"], found["text"]) for found in BLOCK.finditer(document)}


def documented_tables(document: str) -> dict[str, str]:
    """Every generated table as the document has it."""
    return {found["name"]: found["text"] for found in TABLE.finditer(document)}


def regenerated(document: str) -> str:
    """The document with every block and table as the code makes it; KeyError for an unknown label."""
    made, drawn = blocks(), tables()

    def block(found: re.Match[str]) -> str:
        one = made[found["label"]]
        return f"```{one.language} {found['label']}\n{one.text}```"

    def table(found: re.Match[str]) -> str:
        return f"<!-- table: {found['name']} -->\n{drawn[found['name']]}<!-- end -->"

    return TABLE.sub(table, BLOCK.sub(block, document))


if __name__ == "__main__":
    DOCUMENT.write_text(regenerated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    ASYNCAPI.write_text(asyncapi.text(), encoding="utf-8")
