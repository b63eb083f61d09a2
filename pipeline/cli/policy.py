"""`attestream policy check|test|publish|withdraw|list`: documents of policies, and their topic."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Out, keep, on_kafka

if TYPE_CHECKING:
    from contextlib import closing

    from pipeline.policies import PolicyAuthority
    from pipeline.settings import Settings
    from processors.access.cedar import Document, PolicyBook
    from processors.detect import Overrides

_TOML = ".toml"
DocumentFile = Annotated[
    str,
    typer.Argument(
        metavar="DOCUMENT",
        help="NAME.cedar, with NAME.cedarschema beside it; or `hospital`, which ships with attestream; "
        "or NAME.toml: what wards and devices set otherwise for the detectors.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    policy = typer.Typer(
        help="Who may do what: Cedar policies. And limits of wards and devices.",
        no_args_is_help=True,
    )
    policy.callback()(_policy)
    for function, name in (
        (check, "check"),
        (try_cases, "test"),
        (publish, "publish"),
        (withdraw, "withdraw"),
        (list_documents, "list"),
    ):
        policy.command(name=name)(function)
    app.add_typer(policy, name="policy")


def _policy() -> None:
    """Check, test and publish policies."""


def check(
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENT...", help="As for publish.")],
    *,
    device: Annotated[str, typer.Option(help="Of TOML: tell what findings about this device cite.")] = "",
    ward: Annotated[str, typer.Option(help="Of TOML: the same, in this ward.")] = "",
) -> None:
    """Compile documents as workers do, together and against the schema; needs no Kafka."""
    from pipeline.settings import UsageError

    found = [_read(each) for each in documents]
    overrides = [_overrides(each) for each in found if _is_overrides(each)]
    if len(overrides) > 1:
        raise UsageError("one document at a time is in force for the detectors")
    if (device or ward) and not overrides:
        raise UsageError("--device and --ward ask what a document NAME.toml sets")
    policies = [each for each in found if not _is_overrides(each)]
    book = _compiled(policies) if policies else None
    for name, conditions in (book.conditions if book else {}).items():
        effect = "permit" if book and name in book.permits else "forbid"
        obligations = "; ".join(conditions.obligations())
        print(f"{effect} {name}{f': {obligations}' if obligations else ''}")
    for each in overrides:
        _tell(each)
        if device or ward:
            who = f"device {device!r} in " if device else ""
            print(f"{who}ward {ward!r}: config {each.config_of(device, ward).digest}")


def try_cases(
    document: DocumentFile,
    cases: Annotated[
        Path | None,
        typer.Argument(metavar="CASES", help="TOML.  [default: NAME.cases.toml beside the document]"),
    ] = None,
) -> None:
    """Decide the requests of a file and compare with what it expects; needs no Kafka.

    Ends with 1 where a decision is another one.
    """
    from pipeline.settings import UsageError
    from processors.access.cases import run_cases

    if Path(document).suffix == _TOML:
        raise UsageError(f"{document}: cases test policies; try limits on recorded data (`detect replay`)")
    text = _text_of(cases) if cases is not None else _beside(document, ".cases.toml")
    results = run_cases(text, _compiled([_read(document)]))
    for result in results:
        effect = "permit" if result.verdict.is_permit else "deny"
        mark = "ok  " if result.is_as_expected else "FAIL"
        print(f"{mark} {result.case.name}: {effect}, {result.verdict.reason.value} ({result.verdict.detail})")
    failed = sum(not result.is_as_expected for result in results)
    print(f"{len(results) - failed} of {len(results)} as expected")
    if failed:
        raise typer.Exit(1)


@on_kafka
def publish(
    settings: "Settings",
    document: DocumentFile,
    *,
    name: Annotated[str, typer.Option(help="Name of the document.  [default: the file's]")] = "",
    out: Out = None,
) -> None:
    """Sign a document and put it into force, in place of the one of its name."""
    found = _read(document, name)
    if _is_overrides(found):
        _overrides(found)
    else:
        _compiled([found])
    with _authority(settings) as authority:
        if out is not None:
            keep(out, authority.sign(found.name, found.policies, found.schema))
            return
        version = authority.publish(found.name, found.policies, found.schema)
    print(f"{found.name} is in force, version {version}")


@on_kafka
def withdraw(
    settings: "Settings", name: Annotated[str, typer.Argument(help="Of the document.")], *, out: Out = None
) -> None:
    """End a document: what only it permits is permitted no more, what it sets is the default again."""
    with _authority(settings) as authority:
        if out is not None:
            keep(out, authority.sign(name, None))
            return
        version = authority.withdraw(name)
    print(f"{name} is withdrawn, version {version}")


@on_kafka
def list_documents(settings: "Settings") -> None:
    """List the documents with their policies, as of the topic's end."""
    with _authority(settings) as authority:
        table = authority.table
    for each in table.all_published():
        print(f"{each.name} version {each.version}{'' if each.document else ' (withdrawn)'}")
        if table.overrides and each.document and _is_overrides(each.document):
            _tell(table.overrides)
        for policy, conditions in (table.book.conditions if table.book else {}).items():
            if policy.startswith(f"{each.name}/"):
                effect = "permit" if table.book and policy in table.book.permits else "forbid"
                print("  " + "; ".join([f"{effect} {policy}", *conditions.obligations()]))
    digest = table.book.digest.hex() if table.book else "none"
    print(f"policy digest {digest}, offset {table.offset}, {len(table.ignored)} entries ignored")


def _read(document: str, name: str = "") -> "Document":
    from pipeline.settings import UsageError
    from processors.access.cedar import Document
    from processors.access.policies import OVERRIDES

    path = Path(document)
    if path.suffix == _TOML:
        if name not in ("", OVERRIDES):
            raise UsageError(f"{document}: a document for the detectors is named {OVERRIDES}, not {name}")
        return Document(OVERRIDES, _text_of(path), "", b"")
    if name == OVERRIDES:
        raise UsageError(f"{document}: {OVERRIDES} is the name of a document for the detectors, in TOML")
    policies, schema = _beside(document, ".cedar"), _beside(document, ".cedarschema", missing="")
    return Document(name or Path(document).stem, policies, schema, b"")


def _beside(document: str, suffix: str, missing: str | None = None) -> str:
    """Read the file of a document with this suffix; raises UsageError where it must be there and is not."""
    from pipeline.policies import SHIPPED, shipped
    from pipeline.settings import UsageError

    if document == SHIPPED:
        return shipped(suffix)
    path = Path(document)
    if path.suffix != ".cedar":
        raise UsageError(f"{document}: expected a file NAME.cedar or NAME.toml, or `{SHIPPED}`")
    path = path.with_suffix(suffix)
    if missing is not None and not path.exists():
        return missing
    return _text_of(path)


def _text_of(path: Path) -> str:
    from pipeline.settings import UsageError

    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: {error}") from error


def _compiled(documents: "list[Document]") -> "PolicyBook":
    from processors.access.cedar import compile_book

    return compile_book(documents)


def _is_overrides(document: "Document") -> bool:
    from processors.access.policies import OVERRIDES

    return document.name == OVERRIDES


def _overrides(document: "Document") -> "Overrides":
    from processors.access.policies import read_overrides

    return read_overrides(document)


def _tell(overrides: "Overrides") -> None:
    """Print what findings cite as `config` where a document sets something."""
    for ward, config in overrides.wards.items():
        print(f"  ward {ward!r}: config {config.digest}")
    for device in overrides.device_tables:
        print(f"  device {device!r}: config {overrides.config_of(device, '').digest}, in no such ward")


def _authority(settings: "Settings") -> "closing[PolicyAuthority]":
    from contextlib import closing

    from pipeline.policies import PolicyAuthority

    return closing(PolicyAuthority(settings))
