"""The local stack's branch of the exception family of `pipeline`."""

from pipeline.settings import PipelineError


class LocalStackError(PipelineError):
    """Something the user can act on: the message names what is wrong, where, and how to go on."""


class JarsUnavailableError(LocalStackError):
    """Kafka's jars are neither in the cache nor to be had from the Maven repository."""


class BrokerFailedError(LocalStackError):
    """The broker did not become ready; the message carries the end of its log."""


class StackBusyError(LocalStackError):
    """The data directory is in use by another supervisor or broker."""


class StackFailedError(LocalStackError):
    """The supervisor could not bring the stack up; the message carries the end of the right log."""
