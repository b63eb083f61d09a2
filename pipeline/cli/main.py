"""The command line `attestream`: which module holds which command, and how errors are told.

A command line starts in well under half a second: only the module of the command that was asked for
is imported, and modules import what is heavy inside their functions. A new command is one line of
`COMMANDS` and a function `register(app)` in its module.
"""

import sys
from importlib import import_module

import typer

COMMANDS: dict[str, tuple[str, ...]] = {
    "pipeline.cli.stack": ("up", "down", "status"),
    "pipeline.cli.run": ("run", "ledger"),
    "pipeline.cli.topics": ("topics",),
    "pipeline.cli.device": ("device",),
    "pipeline.cli.policy": ("policy",),
    "pipeline.cli.entry": ("entry",),
    "pipeline.cli.evidence": ("prove", "verify"),
    "pipeline.cli.send": ("send",),
    "pipeline.cli.demo": ("demo",),
    "pipeline.cli.tail": ("tail",),
    "pipeline.cli.witness": ("witness",),
    "pipeline.cli.log": ("log",),
    "pipeline.cli.party": ("party",),
    "pipeline.cli.alerts": ("alerts",),
    "pipeline.cli.silence": ("silence",),
    "pipeline.cli.detect": ("detect",),
    "pipeline.cli.loadtest": ("loadtest",),
    "pipeline.cli.size": ("size",),
}

USAGE_ERROR = 2
FAILURE = 1
INTERRUPTED = 130


def build(word: str | None) -> typer.Typer:
    """The application with the command `word`, or with all of them when `word` is none of ours."""
    app = typer.Typer(
        help="Turns a device fleet's events into evidence that nobody can quietly change.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_no_options)
    wanted = [module for module, words in COMMANDS.items() if word in words] or list(COMMANDS)
    for module in wanted:
        import_module(module).register(app)
    return app


def main() -> None:
    """Entry point of `attestream`: exit codes 0, 1 (it failed), 2 (it was asked for wrongly)."""
    word = sys.argv[1] if len(sys.argv) > 1 else None
    try:
        build(word)()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"attestream: {error}", file=sys.stderr)
        sys.exit(code)


def _no_options() -> None:
    """Its presence keeps a single command a subcommand."""


def _exit_code(error: Exception) -> int | None:
    """How to end on an error of a known kind; None for a defect of ours, which needs its traceback."""
    from confluent_kafka import KafkaException

    from anchors.errors import AnchorError
    from loadtests.errors import LoadTestError, PlanError
    from pipeline.settings import PipelineError, UsageError
    from processors.merkle.errors import MerkleError
    from schemas.errors import FormatError, VerifierError

    if isinstance(error, UsageError | PlanError):
        return USAGE_ERROR
    ours = (PipelineError, AnchorError, LoadTestError, FormatError, VerifierError, MerkleError)
    known = (*ours, KafkaException, OSError)
    return FAILURE if isinstance(error, known) else None


if __name__ == "__main__":
    main()
