"""What verification costs by the wheel and by the crate.

PYTHONPATH=. .venv/bin/python -m tests.native.verify_bench [--signatures 2000] [--rounds 9]

CPU time of the process (user and system) for each signature, median of the rounds, by the share of signatures
that do not hold; they are spread at random. Each round has new messages and the same keys, one of its own for
each signature: devices recur, and the crate remembers their keys. Within a round the wheel and the crate take
turns. Before each share the crate sees a few batches of it, as in an attack that lasts; `first` is what the
first batch of that share costs, right after calm ones.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator

import attestream_fast

from schemas.ed25519 import public_key, sign, verify_with_wheel
from schemas.native import BatchVerifier

SHARES = (0.0, 0.01, 0.05, 0.1, 0.5, 1.0)
ROUNDS_BEFORE = 3
CALM_BATCHES = 4

Batch = tuple[list[bytes], list[bytes], list[bytes]]


def batches(signatures: int, message_bytes: int) -> Callable[[float], tuple[Batch, list[bool]]]:
    """Return a maker of batches with a share of signatures that do not hold, and the verdicts due."""
    rng = random.Random(0)
    seeds = [rng.randbytes(32) for _ in range(signatures)]
    keys = [public_key(seed) for seed in seeds]

    def make(share: float) -> tuple[Batch, list[bool]]:
        messages = [rng.randbytes(message_bytes) for _ in seeds]
        signed = [sign(seed, message) for seed, message in zip(seeds, messages, strict=True)]
        verdicts = [True] * signatures
        for place in rng.sample(range(signatures), round(share * signatures)):
            messages[place], verdicts[place] = rng.randbytes(message_bytes), False
        return (keys, messages, signed), verdicts

    return make


def cost_us(verify: BatchVerifier, batch: Batch, verdicts: list[bool]) -> float:
    """CPU microseconds for each signature; the verdicts must be right."""
    began = time.process_time_ns()
    found = verify(*batch)
    spent = time.process_time_ns() - began
    assert found == verdicts
    return spent / 1e3 / len(verdicts)


def rows(signatures: int, rounds: int, message_bytes: int) -> Iterator[tuple[float, float, float, float]]:
    """(share, wheel, crate, first batch by the crate) for each share."""
    make, crate = batches(signatures, message_bytes), attestream_fast.verify_batch
    for share in SHARES:
        firsts, of_wheel, of_crate = [], [], []
        for _ in range(ROUNDS_BEFORE):
            for _ in range(CALM_BATCHES):
                cost_us(crate, *make(0.0))
            firsts.append(cost_us(crate, *make(share)))
        for _ in range(rounds):
            batch = make(share)
            of_wheel.append(cost_us(verify_with_wheel, *batch))
            of_crate.append(cost_us(crate, *batch))
        yield share, statistics.median(of_wheel), statistics.median(of_crate), statistics.median(firsts)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU microseconds for each signature.")
    parser.add_argument("--signatures", type=int, default=2000, help="in a batch, each by its own key")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--message-bytes", type=int, default=400)
    args = parser.parse_args()
    print(f"batches of {args.signatures}, {args.rounds} rounds; the crate on {attestream_fast.BACKEND}")
    print(f"{'bad':>6} {'wheel':>8} {'crate':>8} {'first':>8} {'wheel/crate':>12}   us CPU a signature")
    for share, wheel, crate, first in rows(args.signatures, args.rounds, args.message_bytes):
        print(f"{share:>6.0%} {wheel:>8.1f} {crate:>8.1f} {first:>8.1f} {wheel / crate:>12.1f}", flush=True)


if __name__ == "__main__":
    main()
