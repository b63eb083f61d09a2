"""`attestream alerts fetch|positions`: what a party was told of, and how far each of its outputs is."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import on_kafka

if TYPE_CHECKING:
    from pipeline.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    alerts = typer.Typer(help="Alerts of parties.", no_args_is_help=True)
    alerts.callback()(_alerts)
    alerts.command(name="fetch")(fetch)
    alerts.command(name="positions")(positions)
    app.add_typer(alerts, name="alerts")


def _alerts() -> None:
    """Fetch again what a party was told of, and see how far it was delivered."""


@on_kafka
def fetch(
    settings: "Settings",
    *,
    party: Annotated[str, typer.Option(help="Name of the party.")],
    first: Annotated[int, typer.Option("--from", min=1, help="The party's own number to begin with.")] = 1,
    most: Annotated[int, typer.Option("--count", min=1, help="How many at most.")] = 1_000_000_000,
) -> None:
    """Print alerts from a number on, one JSON document a line, as webhooks and SSE carry them."""
    from itertools import islice

    from pipeline.deliver.delivery import read_delivery
    from pipeline.partyread import fetch as records

    for record in islice(records(settings, party, first), most):
        print(read_delivery(record).body)


@on_kafka
def positions(settings: "Settings") -> None:
    """Print the number that each output has delivered, of how many there are."""
    from pipeline.deliver.positions import positions as found

    for each in found(settings):
        delivered = "nothing yet" if each.delivered is None else f"{each.delivered:,}"
        print(f"{each.party}/{each.output}: {delivered} of {each.newest:,}")
