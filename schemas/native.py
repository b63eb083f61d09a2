"""Whether the Rust crate of `native/` does what it can do, or Python and the wheels that are always there.

`ATTESTREAM_NATIVE` decides, once, when this is imported:

- `auto`, or unset: the crate where it can be imported, Python otherwise;
- `off`: Python;
- `require`: the crate; without it nothing starts.

Both give the same results, so the choice is one of CPU time and may differ from worker to worker. Who has
work for it asks for `CRATE`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from schemas.errors import VerifierError

VARIABLE = "ATTESTREAM_NATIVE"
CHOICES = ("auto", "off", "require")
NEEDED = ("BACKEND", "Opener", "judge_blocks", "record_digests", "verify_batch")
"""Of the crate: one that was built from another state of the sources may lack some, and is none then."""

BatchVerifier = Callable[[Sequence[bytes], Sequence[bytes], Sequence[bytes]], list[bool]]
"""(public keys, messages, signatures) -> verdicts by ZIP 215; one call a batch, so a native one fits."""


def choose_crate(environ: Mapping[str, str]) -> ModuleType | None:
    """Return the crate if it is to be used; raises `VerifierError` where there is no such choice."""
    choice = environ.get(VARIABLE, "") or CHOICES[0]
    if choice not in CHOICES:
        raise VerifierError(f"{VARIABLE} is {choice!r}, and must be one of {', '.join(CHOICES)}")
    if choice == "off":
        return None
    try:
        import attestream_fast
    except ImportError as error:
        why_not = f"attestream_fast cannot be imported ({error})"
    else:
        missing = [name for name in NEEDED if not hasattr(attestream_fast, name)]
        if not missing:
            return attestream_fast
        why_not = f"attestream_fast is of another version and has no {missing[0]}"
    if choice == "require":
        raise VerifierError(f"{VARIABLE}=require, but {why_not}: `make native`")
    return None


CRATE = choose_crate(os.environ)
