"""Options that commands share, and the settings that they make."""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from schemas.envelope import SignedEnvelope

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="State, keys, published logs.  [default: the user's state directory]"),
]
AuthorityKey = Annotated[
    Path | None, typer.Option("--key", help="An authority's key file.  [default: the local authority's]")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Write the signed entry there instead, for further authorities to sign."),
]
Author = Annotated[str, typer.Option("--by", help="Who says so, for people.  [default: the user]")]
Comment = Annotated[str, typer.Option("--comment", help="Why, for people.")]
BootstrapServers = Annotated[
    str | None,
    typer.Option("--bootstrap-servers", help="An existing Kafka, HOST:PORT[,...].  [default: the local one]"),
]
CommandConfig = Annotated[
    Path | None, typer.Option("--command-config", help="Kafka client settings, a properties file.")
]
ClientSetting = Annotated[
    list[str] | None, typer.Option("-X", metavar="KEY=VALUE", help="One Kafka client setting; repeatable.")
]

_CONNECTION = {
    "data_dir": DataDir,
    "bootstrap_servers": BootstrapServers,
    "command_config": CommandConfig,
    "client_settings": ClientSetting,
}


def on_kafka(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where a command's data and Kafka are; it is handed their settings first."""
    own = list(inspect.signature(command).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _CONNECTION.items()
    ]

    @functools.wraps(command)
    def with_settings(**given: Any) -> None:
        command(settings_from(**{name: given.pop(name) for name in _CONNECTION}), **given)

    # What typer reads: the command's own parameters, then these.
    parameters = [*own, *shared]
    with_settings.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
    with_settings.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
    return with_settings


def laid_over(settings: "Settings", **given: Any) -> "Settings":
    """Lay a command's own options over its settings; one that is None says nothing."""
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


def settings_from(
    data_dir: Path | None = None,
    bootstrap_servers: str | None = None,
    command_config: Path | None = None,
    client_settings: list[str] | None = None,
) -> "Settings":
    """Settings of the environment with the options laid over it; an option that is None says nothing.

    Raises UsageError for a value that cannot be read.
    """
    from pydantic import ValidationError

    from pipeline.settings import Settings, UsageError, parse_assignments, read_properties

    given: dict[str, Any] = {"data_dir": data_dir, "bootstrap_servers": bootstrap_servers}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
        kafka: Mapping[str, str] = {
            **settings.kafka,
            **(read_properties(command_config) if command_config is not None else {}),
            **parse_assignments(client_settings or []),
        }
        return settings.model_copy(update={"kafka": kafka}) if kafka else settings
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        raise UsageError(f"setting {name} (ATTESTREAM_{name.upper()}): {first['msg']}") from error
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error


def keep(path: Path, envelope: "SignedEnvelope") -> None:
    """Write a signed entry for `attestream entry`, and say who has signed it."""
    path.write_bytes(envelope.encode())
    names = ", ".join(signature.key_id for signature in envelope.signatures)
    print(f"{path}: signed by {names}")


@functools.cache
def is_interactive() -> bool:
    """Whether a person watches: live displays are for terminals, plain lines for everything else."""
    import sys

    return sys.stderr.isatty()
