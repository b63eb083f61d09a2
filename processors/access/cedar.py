"""The only place that asks Cedar, which leaves out a policy that fails: a failing forbid opens. Here not.

Cedar's answer counts as a permit only when it says Allow, names satisfied permits that we know, and reports
no error at all. Everything else, an exception of the library included, is a deny.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import cedarpy
from blake3 import blake3

from processors.access.conditions import Conditions, PolicyError, parse_conditions, policy_id

MAX_POLICIES = 1000
MAX_ERROR_TEXT = 300

Entity = dict[str, Any]


def base_schema() -> str:
    """Return the schema that every policy may rely on."""
    return resources.files("processors.access").joinpath("base.cedarschema").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Document:
    """A policy document: Cedar policies, and the actions that they speak of."""

    name: str
    policies: str
    schema: str
    digest: bytes
    """Of the signed entry."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Cedar said. `error` is set, whatever else it said, when that is not to be relied on."""

    permits: tuple[str, ...] = ()
    """Ids of the satisfied permits, when no forbid is."""
    forbids: tuple[str, ...] = ()
    error: str = ""
    is_invalid: bool = False
    """Cedar did not come to ask the policies: the request does not fit the schema."""


@dataclass(frozen=True)
class PolicyBook:
    """Documents in force, compiled; ids are `document/id`."""

    digest: bytes
    conditions: Mapping[str, Conditions]
    permits: frozenset[str]
    _policies: cedarpy.PolicySet = field(repr=False)
    _schema: cedarpy.Schema = field(repr=False)

    def ask(self, request: Mapping[str, Any], entities: Sequence[Entity]) -> Answer:
        """Evaluate a request against every policy; never raises."""
        try:
            result = cedarpy.is_authorized(dict(request), self._policies, list(entities), self._schema)
            return self._read(result)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - however it fails, a panic of Rust included: no permit
            return Answer(error=f"{type(error).__name__}: {error}"[:MAX_ERROR_TEXT])

    def _read(self, result: cedarpy.AuthzResult) -> Answer:
        errors, reasons = result.diagnostics.errors, result.diagnostics.reasons
        if result.decision is cedarpy.Decision.NoDecision:
            return Answer(error=_short(errors) or "no decision", is_invalid=True)
        if errors:
            return Answer(error=_short(errors))
        unknown = [reason for reason in reasons if reason not in self.conditions]
        if unknown:
            return Answer(error=f"an answer by policy {unknown[0]!r}, which is not in force")
        permits = tuple(sorted(reason for reason in reasons if reason in self.permits))
        forbids = tuple(sorted(reason for reason in reasons if reason not in self.permits))
        is_allowed = result.decision is cedarpy.Decision.Allow
        if is_allowed is not bool(permits) or (permits and forbids):
            return Answer(
                error=f"{result.decision.value} by {len(permits)} permits and {len(forbids)} forbids"
            )
        return Answer(permits, forbids)


def compile_book(documents: Sequence[Document], *, validate: bool = True) -> PolicyBook:
    """Compile documents; raises PolicyError naming the document at fault.

    Without `validate` policies are not checked against the schema: for tests of what evaluation errors do.
    """
    documents = sorted(documents, key=lambda each: each.name)
    schema = _schema(documents)
    conditions: dict[str, Conditions] = {}
    permits: set[str] = set()
    static: dict[str, Any] = {}
    for document in documents:
        for found in _policies(document, schema, validate=validate):
            name = f"{document.name}/{policy_id(found['annotations'])}"
            if name in static:
                message = f"{document.name}: two policies have the @id {name.partition('/')[2]!r}"
                raise PolicyError(message)
            is_permit = found["effect"] == "permit"
            try:
                conditions[name] = parse_conditions(found["annotations"], is_permit=is_permit)
            except PolicyError as error:
                message = f"{name}: {error}"
                raise PolicyError(message) from error
            static[name] = found
            if is_permit:
                permits.add(name)
    if len(static) > MAX_POLICIES:
        message = f"{len(static)} policies, allowed are {MAX_POLICIES}"
        raise PolicyError(message)
    whole = json.dumps({"staticPolicies": static, "templates": {}, "templateLinks": []})
    try:
        handle = cedarpy.PolicySet.from_json_str(whole)
    except ValueError as error:
        message = f"the policies cannot be put together: {error}"
        raise PolicyError(message) from error
    return PolicyBook(digest_of(documents), conditions, frozenset(permits), handle, schema)


def digest_of(documents: Sequence[Document]) -> bytes:
    """BLAKE3 over the names and entry digests of documents, by name; names are length-prefixed (u32be)."""
    parts = [
        len(each.name.encode()).to_bytes(4, "big") + each.name.encode() + each.digest
        for each in sorted(documents, key=lambda each: each.name)
    ]
    return blake3(b"".join(parts)).digest()


def _schema(documents: Sequence[Document]) -> cedarpy.Schema:
    text = base_schema()
    for document in documents:
        text += f"\n{document.schema}\n"
        try:
            schema = cedarpy.Schema.from_str(text)
        except ValueError as error:
            message = f"{document.name}: schema: {_one_line(str(error))}"
            raise PolicyError(message) from error
    return schema if documents else cedarpy.Schema.from_str(text)


def _policies(document: Document, schema: cedarpy.Schema, *, validate: bool) -> list[dict[str, Any]]:
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(document.policies))
    except ValueError as error:
        message = f"{document.name}: {_one_line(str(error))}"
        raise PolicyError(message) from error
    if parsed["templates"]:
        message = f"{document.name}: templates are not supported, write a policy for each"
        raise PolicyError(message)
    found = [{"annotations": {}, **each} for each in parsed["staticPolicies"].values()]
    if not found:
        message = f"{document.name}: no policies"
        raise PolicyError(message)
    if validate:
        result = cedarpy.validate_policies(document.policies, schema)
        if not result.validation_passed:
            message = f"{document.name}: {'; '.join(_one_line(str(each)) for each in result.errors)}"
            raise PolicyError(message[:2000])
    return found


def _short(errors: Sequence[str]) -> str:
    # What follows "from:" is the whole request again.
    return "; ".join(_one_line(each.rpartition("]: ")[2] or each) for each in errors)[:MAX_ERROR_TEXT]


def _one_line(text: str) -> str:
    return " ".join(text.split())
