"""The exception family of `schemas`: bytes from outside that break their format, and one beside."""


class FormatError(ValueError):
    """Input bytes break a format; the message names what was wrong and where in the input."""


class CodecError(FormatError):
    """Bytes are not one whole Avro record of a compiled-in schema."""


class UnknownSchemaError(CodecError):
    """The CRC-64-AVRO fingerprint names no schema that this build was compiled with."""


class EnvelopeError(FormatError):
    """A signed envelope or its payload breaks a rule that every producer must keep."""


class VerifierError(Exception):
    """The verifier of signatures that the environment asks for is not there."""
