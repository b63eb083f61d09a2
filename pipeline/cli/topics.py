"""`attestream topics apply|check|set-offset|asyncapi`: the topics on a cluster, and what stands in them."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import laid_over, on_kafka

if TYPE_CHECKING:
    from pipeline.settings import Settings

Partitions = Annotated[
    int | None, typer.Option(help="Of every topic keyed by device; fixed for good.  [default: 8]")
]
Replicas = Annotated[int | None, typer.Option("--replication-factor", help="[default: 1]")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(help="Topics on the cluster.", no_args_is_help=True)
    topics.callback()(_topics)
    topics.command(name="apply")(apply)
    topics.command(name="check")(check)
    topics.command(name="set-offset")(set_offset)
    topics.command(name="asyncapi")(asyncapi)
    app.add_typer(topics, name="topics")


def _topics() -> None:
    """Create and check topics."""


@on_kafka
def apply(
    settings: "Settings",
    *,
    partitions: Partitions = None,
    replication_factor: Replicas = None,
) -> None:
    """Create the topics that are missing; refuse to change the shape of those that exist."""
    from pipeline import kafka
    from pipeline import topics as table
    from pipeline.partytopics import all_topics

    settings = laid_over(settings, partitions=partitions, replication_factor=replication_factor)
    created = table.apply(kafka.admin(settings), settings, all_topics(settings))
    print(f"created {', '.join(created)}" if created else "every topic was there already")


@on_kafka
def check(settings: "Settings", *, partitions: Partitions = None) -> None:
    """List every difference between the cluster and the table; exit 1 when there is one."""
    from pipeline import kafka
    from pipeline import topics as table
    from pipeline.partytopics import all_topics

    settings = laid_over(settings, partitions=partitions)
    specs = all_topics(settings)
    problems = table.check(kafka.admin(settings), settings, specs)
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    print(f"{len(specs)} topics as they should be")


@on_kafka
def set_offset(
    settings: "Settings",
    topic: Annotated[str, typer.Argument(help="A raw topic, access.decisions or alerts.")],
    partition: Annotated[int, typer.Argument(min=0)],
    *,
    accept_changelog: Annotated[
        bool,
        typer.Option(
            "--accept-changelog",
            help="Take the changelog as it is: what it does not hold would be accepted again.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let a stage go on behind what it judged last: ingest, profile (access.decisions), route (alerts)."""
    from pipeline import setoffset
    from pipeline import topics as table

    place = (topic, partition)
    found = setoffset.standing(settings, place)
    committed = "no committed offset" if found.committed is None else f"committed {found.committed:,}"
    judged = "no verdict" if found.judged_to is None else f"judged up to {found.judged_to:,}"
    print(f"{topic}[{partition}]: {committed}, {judged}, holds {found.start:,} to {found.end:,}")
    if found.is_another_topic:
        print("Verdicts reach beyond its end: it was made anew or cut off, and is judged from its start.")
    if found.gone:
        print(f"{found.gone:,} offsets are gone and get no verdict.")
    if accept_changelog:
        print("The changelog is taken as it is: what it does not hold would be accepted again.")
    if not yes:
        typer.confirm(f"Let {table.stage_of(topic)} go on at {found.next_offset:,}?", abort=True)
    setoffset.set_offset(settings, place, found.next_offset, accept_changelog=accept_changelog)
    print(f"{table.stage_of(topic)} goes on at {found.next_offset:,}: start it again")


def asyncapi() -> None:
    """Print the AsyncAPI 3 document of all topics, as JSON."""
    from pipeline.asyncapi import text

    print(text(), end="")
