"""Evidence and trust files for two verifiers to agree on: each rule kept, and each rule broken by name."""

from tests.kit.cases.case import Case as Case
from tests.kit.cases.mutated import mutated
from tests.kit.cases.ofevents import events, plain, signatures
from tests.kit.cases.ofledgers import ledgers
from tests.kit.cases.ofnotes import notes
from tests.kit.cases.ofregistry import chains, registries
from tests.kit.cases.oftrust import trusts, witnesses

MAKERS = (plain, events, signatures, registries, chains, notes, witnesses, trusts, ledgers, mutated)


def all_cases() -> list[Case]:
    """Every case, in the same order and with the same bytes in every run."""
    return [case for make in MAKERS for case in make()]
