"""Which code verifies batches of signatures: the Rust crate of `native/`, or the wheel that is always there.

`ATTESTREAM_NATIVE` decides, once, when `schemas.ed25519` is imported:

- `auto`, or unset: the crate where it can be imported, the wheel otherwise;
- `off`: the wheel;
- `require`: the crate; without it nothing starts.

Both give the same verdicts, so the choice is one of CPU time and may differ from worker to worker.
"""

from collections.abc import Callable, Mapping, Sequence

from schemas.errors import VerifierError

VARIABLE = "ATTESTREAM_NATIVE"
CHOICES = ("auto", "off", "require")

BatchVerifier = Callable[[Sequence[bytes], Sequence[bytes], Sequence[bytes]], list[bool]]
"""(public keys, messages, signatures) -> verdicts by ZIP 215; one call a batch, so a native one fits."""


def choose_verifier(environ: Mapping[str, str], wheel: BatchVerifier) -> tuple[BatchVerifier, str]:
    """Return the verifier and its name for logs; raises `VerifierError` where there is none to choose."""
    choice = environ.get(VARIABLE, "") or CHOICES[0]
    if choice not in CHOICES:
        raise VerifierError(f"{VARIABLE} is {choice!r}, and must be one of {', '.join(CHOICES)}")
    if choice != "off":
        try:
            import attestream_fast
        except ImportError as error:
            if choice == "require":
                message = (
                    f"{VARIABLE}=require, but attestream_fast cannot be imported ({error}): `make native`"
                )
                raise VerifierError(message) from error
        else:
            return attestream_fast.verify_batch, f"attestream_fast ({attestream_fast.BACKEND})"
    return wheel, "ed25519_zebra"
