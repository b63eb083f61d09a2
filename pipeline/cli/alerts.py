"""`attestream alerts open|ack|resolve|fetch|positions`: what is not over, and what parties were told."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Author, Comment, Out, on_kafka
from pipeline.cli.silence import saying

if TYPE_CHECKING:
    from pipeline.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    alerts = typer.Typer(help="Alerts and who was told of them.", no_args_is_help=True)
    alerts.callback()(_alerts)
    alerts.command(name="open")(list_open)
    alerts.command(name="ack")(ack)
    alerts.command(name="resolve")(resolve)
    alerts.command(name="fetch")(fetch)
    alerts.command(name="positions")(positions)
    app.add_typer(alerts, name="alerts")


def _alerts() -> None:
    """See what is not over, take it up, end it; fetch again what a party was told of."""


Uid = Annotated[str, typer.Argument(metavar="UID", help="Of the alert, as `alerts open` says.")]


@on_kafka
def list_open(settings: "Settings") -> None:
    """List alerts that are not over, the newest last, as the newest 20,000 messages tell."""
    import time

    from rich.console import Console
    from rich.text import Text

    from pipeline.alerttables import read_told

    cases = list(read_told(settings).cases(time.time_ns() // 1_000_000))
    console = Console(emoji=False, markup=False, highlight=False, soft_wrap=True)
    for case in cases:
        status = case.status.name.lower().replace("_", " ")
        many = f", {len(case.devices)} devices" if case.is_incident else ""
        what = f"{case.title} ({case.analytic}), {case.scope}{many}"
        console.print(Text(f"{case.uid}  {case.severity.value.lower():13} {status:11} {what}"))
    console.print(f"{len(cases)} alerts are not over")


@on_kafka
def ack(
    settings: "Settings", uid: Uid, *, author: Author = "", comment: Comment = "", out: Out = None
) -> None:
    """Say that somebody has taken an alert up: it is in progress, and not repeated."""
    with saying(settings, out) as authority:
        authority.acknowledge(uid, author, comment)


@on_kafka
def resolve(
    settings: "Settings", uid: Uid, *, author: Author = "", comment: Comment = "", out: Out = None
) -> None:
    """Say that an alert is over; what is heard of it afterwards opens it anew."""
    with saying(settings, out) as authority:
        authority.resolve(uid, author, comment)


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
