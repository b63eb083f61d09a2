"""A stage in miniature: `dummy_stage.py KIND HEALTH_FILE ORDER_FILE NAME`.

good: beats and leaves on SIGTERM; stubborn: ignores SIGTERM; frozen: beats no more after the first time;
broken: says why and ends at once.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from pipeline.local.files import write_json
from pipeline.local.leash import hold_leash


def main() -> int:
    kind, health, order, name = sys.argv[1:]
    if kind == "broken":
        print("the flux capacitor is missing", flush=True)
        return 7
    stop = threading.Event()
    ignore = kind == "stubborn"
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ignore else lambda *_: stop.set())
    if not ignore:
        hold_leash(stop.set)
    beat_s = time.time() - (60 if kind == "frozen" else 0)
    while not stop.is_set():
        if kind != "frozen":
            beat_s = time.time()
        write_json(Path(health), {"pid": os.getpid(), "state": "running", "beat_s": beat_s, "detail": kind})
        stop.wait(0.1)
    with Path(order).open("a") as file:
        file.write(name + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
