"""What can go wrong in a load test: one family of exceptions."""


class LoadTestError(Exception):
    """The exception family of the load tester; each is told as one line."""


class CorpusError(LoadTestError):
    """A file is no corpus, or not whole; says what is wrong and where."""


class PlanError(LoadTestError):
    """What was asked for cannot be made or measured; says what would do."""
