"""`attestream size`: how many cores, bytes and dollars a fleet needs, by the measured cost model."""

import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="size")(size)


def size(  # noqa: PLR0917 - typer takes every option as a parameter
    devices: Annotated[int, typer.Option(help="How many devices report.")],
    rate: Annotated[str, typer.Option(help="Events of each device: 1/s, 2/min, 0.5/s, 60/h.")] = "1/s",
    event_bytes: Annotated[
        float | None, typer.Option(help="Bytes of a signed event.  [default: as measured]")
    ] = None,
    access_share: Annotated[float, typer.Option(help="Share of log-ins among the events.")] = 0.01,
    checkpoint_interval: Annotated[
        float, typer.Option(help="Seconds; a shard's checkpoint is signed at most so often.")
    ] = 1.0,
    anchor_interval: Annotated[float, typer.Option(help="Seconds between two anchors.")] = 10.0,
    retention_days: Annotated[float, typer.Option(help="Of accepted and rejected events.")] = 90.0,
    replication: Annotated[int, typer.Option(help="Replicas of each topic.")] = 3,
    cores_per_machine: Annotated[int, typer.Option(help="Cores of a machine.")] = 8,
    put_price: Annotated[
        float,
        typer.Option(help="US dollars for 1,000 writes into the object store; S3 Standard's list price."),
    ] = 0.005,
    message_price: Annotated[
        float, typer.Option(help="US dollars for a message to the ledger; Hedera's fee.")
    ] = 0.0008,
    costs: Annotated[
        Path | None,
        typer.Option(
            help="Costs that `attestream loadtest costs` measured.  [default: those of the package]"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Reckon cores, memory, bytes and prices of a fleet from measured costs; assumptions are named."""
    from loadtests import sizing
    from loadtests.costs import SHIPPED, read_costs
    from loadtests.sizeplan import Fleet, parse_rate
    from pipeline.loadtest import sizetable

    fleet = Fleet(
        devices=devices,
        rate=parse_rate(rate),
        event_bytes=event_bytes,
        access_share=access_share,
        checkpoint_interval_s=checkpoint_interval,
        anchor_interval_s=anchor_interval,
        retention_days=retention_days,
        replication=replication,
        cores_per_machine=cores_per_machine,
        put_price=put_price,
        message_price=message_price,
    )
    measured = read_costs(costs or SHIPPED)
    sized = sizing.size(fleet, measured)
    if as_json:
        print(json.dumps(sizetable.document(fleet, sized, measured), indent=1))
    else:
        sizetable.tell(fleet, sized, measured)
