"""Avro single-object encoding, only with compiled-in schemas (Avro 1.12, "Single object encoding").

`C3 01`, the little-endian CRC-64-AVRO fingerprint of the writer's schema, then the body. The reader
knows every version in `schemas/avro/`, named `<record>.v<version>.avsc`, and resolves an older writer
to the newest version; the newest is what it writes. A fingerprint outside that set is an error: no
registry server is asked, so nobody can feed us a schema.
"""

import io
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.errors import CodecError, UnknownSchemaError

MARKER = b"\xc3\x01"
HEADER_SIZE = 10  # marker and fingerprint
_FILE = re.compile(r"(?P<name>[a-z_]+)\.v(?P<version>[0-9]+)\.avsc")

Record = dict[str, Any]


class Codec:
    """Encodes and decodes records of a fixed set of schemas.

    `schemas` maps (record file name, version) to a schema as JSON gives it. Names are the file's,
    such as `signed_envelope`.
    """

    def __init__(self, schemas: Mapping[tuple[str, int], Any]) -> None:
        newest: dict[str, int] = {}
        for name, version in schemas:
            newest[name] = max(version, newest.get(name, 0))
        self._writers: dict[str, tuple[bytes, Any]] = {}
        self._readers: dict[bytes, tuple[str, Any, Any]] = {}  # reader schema None: same as the writer's
        for (name, version), schema in schemas.items():
            parsed = fastavro.parse_schema(schema)
            current = newest[name] == version
            header = MARKER + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
            reader = None if current else fastavro.parse_schema(schemas[name, newest[name]])
            self._readers[header] = (name, parsed, reader)
            if current:
                self._writers[name] = (header, parsed)

    def header(self, name: str) -> bytes:
        """Return the ten bytes before every body that this codec writes for `name`."""
        return self._writers[name][0]

    def name_of(self, data: bytes) -> str:
        """Name the record that `data` claims to be; raises as `decode` does."""
        return self._reader(data)[0]

    def encode(self, name: str, record: Mapping[str, Any]) -> bytes:
        """Write `record` with the newest schema of `name`."""
        header, schema = self._writers[name]
        try:
            return self._write(header, schema, record)
        except Exception as error:
            # fastavro raises whatever its C code meets; the caller's record is at fault in every case.
            message = f"record does not fit schema {name}: {error}"
            raise CodecError(message) from error

    @staticmethod
    def _write(header: bytes, schema: Any, record: Any) -> bytes:
        buffer = io.BytesIO()
        buffer.write(header)
        fastavro.schemaless_writer(buffer, schema, record)
        return buffer.getvalue()

    def decode(self, name: str, data: bytes) -> Record:
        """Read exactly one record of `name`.

        Raises UnknownSchemaError for a foreign fingerprint and CodecError for everything else:
        another record's bytes, a truncated body, trailing bytes, or any spelling but the plain one. Avro
        lets a number or an array be spelled in many ways and its decoders differ in what they take, so two
        verifiers could read one payload as two events.
        """
        found, writer, reader = self._reader(data)
        if found != name:
            message = f"expected a {name} record, found {found}"
            raise CodecError(message)
        stream = io.BytesIO(data)
        stream.seek(HEADER_SIZE)
        try:
            record: Any = fastavro.schemaless_reader(stream, writer, reader)
        except Exception as error:
            message = f"{name} body of {len(data) - HEADER_SIZE} bytes cannot be read at byte {stream.tell()}"
            raise CodecError(message) from error
        if stream.tell() != len(data):
            message = f"{len(data) - stream.tell()} bytes after the end of the {name} record"
            raise CodecError(message)
        plain = record if reader is None else self._as_written(data, writer)
        if self._write(data[:HEADER_SIZE], writer, plain) != data:
            message = f"the {name} record is not in its plain form: one block an array, shortest numbers"
            raise CodecError(message)
        return cast("Record", record)

    @staticmethod
    def _as_written(data: bytes, writer: Any) -> Any:
        stream = io.BytesIO(data)
        stream.seek(HEADER_SIZE)
        return fastavro.schemaless_reader(stream, writer, None)

    def _reader(self, data: bytes) -> tuple[str, Any, Any]:
        header = data[:HEADER_SIZE]
        found = self._readers.get(header)
        if found is not None:
            return found
        if len(data) < HEADER_SIZE or header[:2] != MARKER:
            message = f"{len(data)} bytes do not begin with the single-object marker c301 and a fingerprint"
            raise CodecError(message)
        message = f"no compiled-in schema has the fingerprint {header[2:].hex()}"
        raise UnknownSchemaError(message)


def compiled_in() -> dict[tuple[str, int], Any]:
    """Read the schemas that ship with this package."""
    found: dict[tuple[str, int], Any] = {}
    for entry in resources.files("schemas").joinpath("avro").iterdir():
        match = _FILE.fullmatch(entry.name)
        if match:
            found[match["name"], int(match["version"])] = json.loads(entry.read_text(encoding="utf-8"))
    return found


CODEC = Codec(compiled_in())
"""The codec of this build."""
