"""`attestream run STAGE` and `attestream ledger serve`: what the supervisor starts, and an operator can."""

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import DataDir, on_kafka, settings_from

if TYPE_CHECKING:
    from pipeline.settings import Settings

STAGES = ("ingest", "profile", "seal", "anchor", "correlate", "route", "deliver", "monitor", "index")

Slot = Annotated[int, typer.Option("--slot", min=0, help="Number of this worker among those of its stage.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="run")(run)
    ledger = typer.Typer(help="The local consensus service.", no_args_is_help=True)
    ledger.callback()(_ledger)
    ledger.command(name="serve")(serve)
    app.add_typer(ledger, name="ledger")


@on_kafka
def run(
    settings: "Settings",
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(STAGES)}.")],
    *,
    slot: Slot = 0,
    when_set_up: Annotated[bool, typer.Option("--when-set-up", hidden=True)] = False,
) -> None:
    """Run one worker of a stage until SIGTERM."""
    from importlib import import_module

    from pipeline.local.stackfile import wait_until_set_up
    from pipeline.settings import UsageError

    if stage not in STAGES:
        raise UsageError(f"no stage {stage!r}: there are {', '.join(STAGES)}")
    # What is loaded stays: the collector need not look at it, neither now nor later.
    gc.disable()
    module = import_module(f"pipeline.{stage}")
    gc.freeze()
    gc.enable()
    # What a batch makes lives as long as the batch and is freed without the collector, which is there for
    # cycles: by default it looks at all of it many times meanwhile, a tenth of ingest's CPU time (measured).
    gc.set_threshold(100_000, 50, 100)
    if when_set_up and not wait_until_set_up(settings.data_dir):
        return
    module.run(settings, slot)


def _ledger() -> None:
    """Run the local stand-in of a public ledger."""


def serve(
    data_dir: DataDir = None,
    grpc_port: Annotated[int, typer.Option(help="Port of the Hedera API; 0 takes a free one.")] = 0,
    rest_port: Annotated[int, typer.Option(help="Port of the mirror's REST; 0 takes a free one.")] = 0,
) -> None:
    """Serve a local stand-in of Hedera's consensus service, with the real interface, on loopback."""
    from anchors.hedera.keys import create_operator_key, load_operator_key, public_key_bytes
    from anchors.hedera.server import run as run_server
    from pipeline.local.leash import hold_leash
    from pipeline.stage import configure_logging
    from pipeline.trust import operator_key_path

    settings = settings_from(data_dir)
    configure_logging()
    key_file = operator_key_path(settings)
    if not key_file.exists():
        create_operator_key(key_file)
    public_key = public_key_bytes(load_operator_key(key_file))
    hold_leash(_leave)
    run_server(
        settings.data_dir / "ledger" / "ledger.sqlite",
        grpc_port,
        rest_port,
        {settings.ledger_operator: public_key},
        on_ready=_say_ready,
    )


def _leave() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGTERM)


def _say_ready(grpc_port: int, rest_port: int) -> None:
    print(
        f"local stand-in of a Hedera network: gRPC 127.0.0.1:{grpc_port}, mirror http://127.0.0.1:{rest_port}"
    )
