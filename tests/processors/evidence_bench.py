"""How long verifying takes, parsing included: `python -m tests.processors.evidence_bench`.

The file has everything in it: an approval, three registry entries, three cosignatures and a ledger segment.
"""

import statistics
import time

from pipeline.verify import verify
from schemas.evidence import parse_evidence
from tests.processors.test_evidence_bytes import TRUST, full_file

ROUNDS = 200


def main() -> None:
    data, times = full_file(), []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        verdict = verify(parse_evidence(data), TRUST)
        times.append((time.perf_counter() - began) * 1e3)
        assert verdict.holds
    median, most = statistics.median(times), max(times)
    print(f"{len(data):,} bytes: first {times[0]:.1f} ms, median {median:.1f} ms, most {most:.1f} ms")


if __name__ == "__main__":
    main()
