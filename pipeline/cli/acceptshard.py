"""`attestream log accept-shard`: close a shard that stopped, and begin its successor."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import on_kafka

if TYPE_CHECKING:
    from pipeline.settings import Settings


@on_kafka
def accept_shard(
    settings: "Settings",
    topic: Annotated[str, typer.Argument(help="A sealed topic.")],
    partition: Annotated[int, typer.Argument(min=0)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Close a shard that has stopped, as it stands, and begin a successor on what its topic holds now."""
    from pipeline.acceptshard import accept, why_stopped

    why = why_stopped(settings, (topic, partition))
    if why is not None:
        print(why)
        print("Its log will be closed for good. The successor is named in the signed list, for all to see.")
        if not yes:
            typer.confirm("Close it and begin a successor?", abort=True)
    accepted = accept(settings, (topic, partition))
    print(f"closed     {accepted.closed}")
    print(f"successor  {accepted.about.shard_id}, from offset {accepted.about.from_offset}")
    print("Start the sealers again: they take it up.")
