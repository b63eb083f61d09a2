"""What can go wrong in detection: a configuration that makes no sense, or state bytes that are not ours."""


class DetectError(ValueError):
    """The exception family of `processors.detect`."""


class ConfigError(DetectError):
    """The configuration's author is at fault; the message names the table and the field."""


class StateError(DetectError):
    """Bytes are not a detector state of a version that this build reads."""
