"""The OCSF schema, closed: an attribute that it does not know is an error.

The newest that a package carries is 1.8.0. OCSF's minor versions only add, so what is valid there is valid in
1.9.0 too. Of what 1.9.0 adds alerts use the profile `record_integrity`, put here on top: the attribute
`attestation_list`, of its object `attestation` what we write, and three more members of `fingerprint`.
"""

from typing import Any

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

VERSION = "1.8.0"


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """A JSON schema of an object with these members and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


_TEXT = {"type": "string", "minLength": 1}
FINGERPRINT = closed(
    ["algorithm_id", "value"],
    algorithm=_TEXT,
    algorithm_id={"enum": [*range(21), 99]},
    encoding=_TEXT,
    encoding_id={"enum": [0, 1, 2, 3, 99]},
    serialization=_TEXT,
    serialization_id={"enum": [*range(9), 99]},
    value=_TEXT,
)
ATTESTATION = {
    **closed([], uid=_TEXT, authority_uid=_TEXT, chain_uid=_TEXT, fingerprint=FINGERPRINT),
    "anyOf": [{"required": ["fingerprint"]}, {"required": ["signatures"]}],
}


def ocsf_class(name: str, *profiles: str) -> Draft202012Validator:
    """The validator of a class with these profiles and `record_integrity`."""
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION)).get_class_schema(name, list(profiles))
    schema["properties"]["attestation_list"] = {"type": "array", "items": ATTESTATION}
    return Draft202012Validator(schema)


def problems(validator: Draft202012Validator, document: Any) -> list[str]:
    """What is wrong with a document, each with its place."""
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
