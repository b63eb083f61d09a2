"""What a freshly forked child does before and after its own work."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn


def become(log: str, body: Callable[[], None]) -> NoReturn:
    """Write to `log` alone, do `body`, and end: with 0, or with 1 and a traceback in the log."""
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        body()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # Not sys.exit: what the parent had open is not ours to close in an orderly way.
        os._exit(code)
