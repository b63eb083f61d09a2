"""`attestream policy check|test|publish|withdraw|sign|submit|list`: documents of policies, their topic."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import AuthorityKey, DataDir, on_kafka, settings_from

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import closing

    from pipeline.policies import PolicyAuthority
    from pipeline.settings import Settings
    from processors.access.cedar import Document, PolicyBook
    from schemas.envelope import SignedEnvelope

DocumentFile = Annotated[
    str,
    typer.Argument(
        metavar="DOCUMENT",
        help="NAME.cedar, with NAME.cedarschema beside it; or `hospital`, which ships with attestream.",
    ),
]
EntryFile = Annotated[
    Path, typer.Argument(metavar="ENTRY", exists=True, dir_okay=False, help="What --out wrote.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Write the signed entry there instead, for further authorities to sign."),
]
SHIPPED = "hospital"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    policy = typer.Typer(help="Who may do what: Cedar policies.", no_args_is_help=True)
    policy.callback()(_policy)
    for function, name in (
        (check, "check"),
        (try_cases, "test"),
        (publish, "publish"),
        (withdraw, "withdraw"),
        (sign, "sign"),
        (submit, "submit"),
        (list_documents, "list"),
    ):
        policy.command(name=name)(function)
    app.add_typer(policy, name="policy")


def _policy() -> None:
    """Check, test and publish policies."""


def check(
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENT...", help="As for publish.")],
) -> None:
    """Compile documents as workers do, together and against the schema; needs no Kafka."""
    book = _compiled([_read(each) for each in documents])
    for name, conditions in book.conditions.items():
        effect = "permit" if name in book.permits else "forbid"
        obligations = "; ".join(conditions.obligations())
        print(f"{effect} {name}{f': {obligations}' if obligations else ''}")


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
    from processors.access.cases import run_cases

    text = cases.read_text(encoding="utf-8") if cases is not None else _beside(document, ".cases.toml")
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
    _compiled([found])
    with _authority(settings) as authority:
        if out is not None:
            _keep(out, authority.sign(found.name, found.policies, found.schema))
            return
        version = authority.publish(found.name, found.policies, found.schema)
    print(f"{found.name} is in force, version {version}")


@on_kafka
def withdraw(
    settings: "Settings", name: Annotated[str, typer.Argument(help="Of the document.")], *, out: Out = None
) -> None:
    """End a document: what only it permits is permitted no more."""
    with _authority(settings) as authority:
        if out is not None:
            _keep(out, authority.sign(name, None))
            return
        version = authority.withdraw(name)
    print(f"{name} is withdrawn, version {version}")


def sign(
    entry: EntryFile,
    *,
    data_dir: DataDir = None,
    key: AuthorityKey = None,
) -> None:
    """Sign an entry as one more authority, and say what it would do; needs no Kafka."""
    from pipeline.entries import countersign
    from pipeline.trust import authority_identity
    from schemas.envelope import PayloadKind

    settings = settings_from(data_dir)
    identity = authority_identity(settings, key)
    with _blaming(entry):
        envelope, what = countersign(
            entry.read_bytes(), PayloadKind.POLICY_ENTRY, settings.log_name, identity
        )
    print(f"{what['action']} {what['subject']} version {what['version']}")
    if what["policies"]:
        # Whose text it is nobody knows yet: it must not paint over what the signer sees.
        print("".join(c if c.isprintable() or c == "\n" else ascii(c) for c in what["policies"].rstrip()))
    _keep(entry, envelope)


@on_kafka
def submit(settings: "Settings", entry: EntryFile) -> None:
    """Put an entry into force that as many authorities have signed as the trust file demands."""
    with _authority(settings) as authority, _blaming(entry):
        name, version = authority.submit(entry.read_bytes())
    print(f"{name}: version {version} is taken")


@on_kafka
def list_documents(settings: "Settings") -> None:
    """List the documents with their policies, as of the topic's end."""
    with _authority(settings) as authority:
        table = authority.table
    for each in table.all_published():
        print(f"{each.name} version {each.version}{'' if each.document else ' (withdrawn)'}")
        for policy, conditions in (table.book.conditions if table.book else {}).items():
            if policy.startswith(f"{each.name}/"):
                effect = "permit" if table.book and policy in table.book.permits else "forbid"
                print("  " + "; ".join([f"{effect} {policy}", *conditions.obligations()]))
    digest = table.book.digest.hex() if table.book else "none"
    print(f"policy digest {digest}, offset {table.offset}, {len(table.ignored)} entries ignored")


@contextmanager
def _blaming(entry: Path) -> "Iterator[None]":
    """Name the file in what its bytes are refused for."""
    from pipeline.settings import UsageError
    from schemas.errors import FormatError

    try:
        yield
    except FormatError as error:
        raise UsageError(f"{entry}: {error}") from error


def _keep(path: Path, envelope: "SignedEnvelope") -> None:
    path.write_bytes(envelope.encode())
    names = ", ".join(signature.key_id for signature in envelope.signatures)
    print(f"{path}: signed by {names}")


def _read(document: str, name: str = "") -> "Document":
    from processors.access.cedar import Document

    policies, schema = _beside(document, ".cedar"), _beside(document, ".cedarschema", missing="")
    return Document(name or Path(document).stem, policies, schema, b"")


def _beside(document: str, suffix: str, missing: str | None = None) -> str:
    """Read the file of a document with this suffix; raises UsageError where it must be there and is not."""
    from importlib import resources

    from pipeline.settings import UsageError

    if document == SHIPPED:
        return resources.files("processors.access").joinpath(SHIPPED + suffix).read_text(encoding="utf-8")
    path = Path(document)
    if path.suffix != ".cedar":
        raise UsageError(f"{document}: expected a file NAME.cedar, or `{SHIPPED}`")
    path = path.with_suffix(suffix)
    if missing is not None and not path.exists():
        return missing
    return path.read_text(encoding="utf-8")


def _compiled(documents: "list[Document]") -> "PolicyBook":
    from processors.access.cedar import compile_book

    return compile_book(documents)


def _authority(settings: "Settings") -> "closing[PolicyAuthority]":
    from contextlib import closing

    from pipeline.policies import PolicyAuthority

    return closing(PolicyAuthority(settings))
