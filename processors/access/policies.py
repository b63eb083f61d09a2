"""The policies as a table: documents that authorities published, under the rules of signed entries.

An entry whose document would not compile with the others is ignored and reported like one with a bad
signature: what was in force stays in force.

One document is no Cedar but TOML: what wards and devices set otherwise for the detectors. Which it is follows
from its name, which no Cedar document can have, so neither is ever read as the other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processors.access.cedar import Document, PolicyBook, compile_book
from processors.access.conditions import PolicyError
from processors.chain import EntryError, SignedTable
from processors.detect import ConfigError, DetectConfig, Overrides
from schemas.envelope import PayloadKind
from schemas.trust import TrustRoot

OVERRIDES = "detectors.toml"
MAX_DOCUMENTS = 64
"""Of Cedar."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Published:
    """The last entry of a document; `document` is None while it is withdrawn."""

    name: str
    version: int
    entry_digest: bytes
    document: Document | None


class PolicyTable(SignedTable):
    """Documents by name after the entries before `offset`, compiled into one book."""

    def __init__(self, trust: TrustRoot) -> None:
        super().__init__(trust, PayloadKind.POLICY_ENTRY)
        self._published: dict[str, Published] = {}
        self.book: PolicyBook | None = None
        """None while no document is in force."""
        self.changed_at = -1
        """Offset of the entry that last changed the book."""
        self.overrides: Overrides | None = None
        """What wards and devices set otherwise for the detectors; None while nothing of it is in force."""

    def published(self, name: str) -> Published | None:
        """Look a document up at the current offset."""
        return self._published.get(name)

    def last_entry(self, subject: str) -> tuple[int, bytes]:
        """Return version and digest of a document's last entry; 0 and b"" before the first."""
        known = self._published.get(subject)
        return (known.version, known.entry_digest) if known else (0, b"")

    def all_published(self) -> list[Published]:
        """List every document, withdrawn ones too, in the order of publication."""
        return list(self._published.values())

    def _apply_entry(self, entry: dict[str, Any], digest: bytes, offset: int) -> None:
        name = entry["subject"]
        if name != OVERRIDES and not _NAME.fullmatch(name):
            message = f"subject {name[:64]!r} is no name: a-z, 0-9, '_', '-', at most 64, or {OVERRIDES}"
            raise EntryError(message)
        known = self._published.get(name)
        self._check_follows(entry)
        document = None
        if entry["action"] == "PUBLISH":
            document = Document(name, entry["policies"], entry["schema"], digest)
        elif known is None or known.document is None:
            message = f"WITHDRAW of {name}, which is not in force"
            raise EntryError(message)
        elif entry["policies"] or entry["schema"]:
            message = f"WITHDRAW of {name} with policies"
            raise EntryError(message)
        published = {**self._published, name: Published(name, entry["version"], digest, document)}
        if name == OVERRIDES:
            # No permit rests on it, so the book has not changed.
            self.overrides = read_overrides(document, self.overrides) if document else None
        else:
            self.book, self.changed_at = _compiled(published), offset
        self._published = published


def read_overrides(document: Document, before: Overrides | None = None) -> Overrides:
    """Read the document of overrides over the defaults of this build; raises PolicyError."""
    if document.schema:
        message = f"{OVERRIDES}: it has no Cedar schema"
        raise PolicyError(message)
    try:
        return Overrides.parse(document.policies, DetectConfig.default(), before)
    except ConfigError as error:
        message = f"{OVERRIDES}: {error}"
        raise PolicyError(message) from error


def _compiled(published: Mapping[str, Published]) -> PolicyBook | None:
    documents = [
        each.document for each in published.values() if each.document is not None and each.name != OVERRIDES
    ]
    if len(documents) > MAX_DOCUMENTS:
        message = f"{len(documents)} documents, allowed are {MAX_DOCUMENTS}"
        raise PolicyError(message)
    return compile_book(documents) if documents else None
