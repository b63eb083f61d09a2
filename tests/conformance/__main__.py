"""The published log of a demo, and the document of its topics, before six tools that nobody here wrote.

Usage: python -m tests.conformance [--seconds S] [--folder DIR]. The last line of the output is the result;
the exit code is 0 only if every tool was to be had and every check held.
"""

import argparse
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

from pipeline.demo.session import interruptible
from tests.conformance import aics_tlog, asyncapi, cosigning, proofbundle, tessera, tools
from tests.conformance.demonstration import DemoFailedError, Demonstration
from tests.conformance.processes import ServerError
from tests.conformance.tally import Tally, UnavailableError
from tests.conformance.witnesses import ForeignWitness, aics_witness, lite_witness

T = TypeVar("T")
DEMO = "demo"
AICS_WITNESS, LITEWITNESS = "aics-witness", "litewitness"


def main() -> int:
    """Run everything."""
    options = _options()
    rng = random.Random(options.seed)
    print(f"conformance with seed {options.seed}, demo of {options.seconds:g} s", flush=True)
    tally = Tally()
    with ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(interruptible())
        try:
            _run(folder, options.seconds, tally, rng)
        except DemoFailedError as error:
            tally.check(DEMO, "succeeds", holds=False, detail=str(error))
    print(tally.last_line(), flush=True)
    return 0 if tally.is_good else 1


def _run(folder: Path, seconds: float, tally: Tally, rng: random.Random) -> None:
    began_s = time.monotonic()

    def told(what: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {what}", flush=True)

    with ThreadPoolExecutor(4) as pool:
        cli_soon = pool.submit(_have, asyncapi.TOOL, tools.asyncapi_cli, tally)
        fsck_soon = pool.submit(_have, tessera.TOOL, tools.tessera_fsck, tally)
        lite_soon = pool.submit(_have, LITEWITNESS, tools.litewitness, tally)
        python_soon = pool.submit(
            _have, (proofbundle.TOOL, aics_tlog.TOOL, AICS_WITNESS), tools.python_tools, tally
        )
    fsck, lite, python = fsck_soon.result(), lite_soon.result(), python_soon.result()
    cli = cli_soon.result()
    told("tools are there")
    if cli is not None:
        asyncapi.check(cli, folder / "asyncapi", tally)
        told(f"{asyncapi.TOOL} is done")
    demo = Demonstration(folder)
    log = demo.prepare()
    with ExitStack() as stack:
        witnesses: list[ForeignWitness] = []
        if python is not None:
            _start(stack, AICS_WITNESS, aics_witness(python, folder / "aics", log), witnesses, tally)
        if lite is not None:
            _start(stack, LITEWITNESS, lite_witness(lite, folder / "lite", log), witnesses, tally)
        demo.play(seconds, witnesses)
        told(f"demo is over: {len(demo.logs())} logs, {len(demo.cosigned)} cosigned checkpoints")
        for witness in witnesses:
            cosigning.check_growth(demo, witness, tally)
            if demo.cosigned:
                cosigning.check_refusals(demo, witness, tally)
    cosigning.check_evidence(demo, witnesses, tally)
    told("witnesses are done")
    keys = [witness.key for witness in witnesses]
    if fsck is not None:
        tessera.check(fsck, demo, tally, rng)
        told(f"{tessera.TOOL} is done")
    if python is not None:
        proofbundle.check(python, demo, keys, tally, rng)
        told(f"{proofbundle.TOOL} is done")
        aics_tlog.check(python, demo, keys, tally, rng)
        told(f"{aics_tlog.TOOL} is done")


def _have(names: str | tuple[str, ...], get: Callable[[], T], tally: Tally) -> T | None:
    """Get a tool, or note why not for each of its names."""
    try:
        return get()
    except UnavailableError as error:
        for name in (names,) if isinstance(names, str) else names:
            tally.lacks(name, str(error))
        return None


def _start(
    stack: ExitStack,
    name: str,
    witness: AbstractContextManager[ForeignWitness],
    witnesses: list[ForeignWitness],
    tally: Tally,
) -> None:
    try:
        witnesses.append(stack.enter_context(witness))
    except ServerError as error:
        tally.check(name, "starts", holds=False, detail=str(error))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the demo streams (default 60)")
    parser.add_argument("--folder", type=Path, help="keep everything in this new folder")
    parser.add_argument("--seed", type=int, default=secrets.randbits(31), help="which bytes are flipped")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
