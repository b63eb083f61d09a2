"""SEALING: the same leaves, sealed by seal from their topic and appended by Tessera's POSIX log.

fill       all records are in `device.events` before anybody reads
seal       works them off alone, in one process, until its signed checkpoints cover all of them
tessera    appends the very leaves that seal has published, in one process, until its own one does
compare    CPU time for a leaf, over the part in which each is warm

The topic has one partition, so that both make one tree, and the same: their roots must be equal. Both are
looked at in the same way and from outside: the published checkpoint says how far each is.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from loadtests import baselines
from loadtests.children import Child
from loadtests.corpus import KINDS, Corpus
from loadtests.draining import OFTEN_S, Drained, watch
from loadtests.errors import LoadTestError
from loadtests.goprogram import NotBuiltError, build
from loadtests.published import bundles, published_size
from pipeline.kafka import admin, end_offsets, producer
from pipeline.loadtest import site
from pipeline.loadtest.compare import FILL_S, medians, worker
from pipeline.loadtest.show import LoadShow
from pipeline.loadtest.site import Site
from pipeline.settings import Settings
from pipeline.shard import store_of
from pipeline.topics import EVENTS, RAW_TOPIC_OF
from schemas.checkpoint import open_checkpoint, parse_checkpoint
from schemas.note import parse_note, parse_vkey

SEAL, TESSERA = "attestream seal", "Tessera"
SHARD = (EVENTS, 0)
SOURCE = Path(baselines.__file__).with_name("tessera")
PROGRAM = Path("build", "tessera", "tessera-posix")
RECORDS = 500_000
"""Seal is done with so many within seconds, and a checkpoint comes once a second."""
CORPUS_RECORDS = 40_000
"""A corpus of more is signed for nothing: its events come again and again, and each is another record."""
BATCH_SIZE = 16_384
"""Tessera's batches: the larger the cheaper (its documents), though hardly from here on (measured). One of
more may take longer than a checkpoint interval to be integrated: checkpoints would be rarer than ours."""

OVER_S = 60.0


@dataclass(slots=True)
class Round:
    """What was found in one round; of Tessera nothing where it cannot be built."""

    seal: Drained
    tessera: Drained | None = None
    said: dict[str, Any] | None = None
    """What Tessera's process says of itself, start and end included."""

    def to_json(self) -> dict[str, Any]:
        """Members by contender."""
        found: dict[str, Any] = {SEAL: self.seal.to_json()}
        if self.tessera is not None:
            found[TESSERA] = {**self.tessera.to_json(), "said": self.said}
        return found


def compare_seals(  # noqa: PLR0917 - what, how much, and with what
    settings: Settings,
    corpus: Corpus,
    show: LoadShow,
    rounds: int = 1,
    records: int = RECORDS,
    program: Path = PROGRAM,
) -> dict[str, Any]:
    """Measure both, each round on a fresh stack; return medians and a ratio as a document.

    Where Tessera cannot be built it is left out, and `not_measured` has the reason.
    """
    settings = settings.model_copy(update={"log_name": corpus.header.log_name, "partitions": 1})
    why_not: dict[str, str] = {}
    show.say("building Tessera")
    try:
        build(SOURCE, program)
    except NotBuiltError as error:
        why_not[TESSERA] = str(error)
        show.say(f"{TESSERA} is left out: {error}")
    found = []
    for number in range(rounds):
        with site.temporary(settings, stages=(), on_step=show.step) as stack:
            show.say(f"round {number + 1} of {rounds}: filling {EVENTS}")
            fill(stack.settings, corpus, records)
            each = Round(drain_seal(stack, records, show))
            _tell(each.seal, show)
            if not why_not:
                each.tessera, each.said = drain_tessera(program, stack.settings, records, show)
                _tell(each.tessera, show)
            found.append(each)
    contenders = {SEAL: medians([each.seal for each in found])}
    theirs = [each.tessera for each in found if each.tessera is not None]
    if theirs:
        contenders[TESSERA] = medians(theirs)
    return {
        "contenders": contenders,
        "rounds": [each.to_json() for each in found],
        "leaves": records,
        "ratios": {"tessera_cpu_ratio": _ratio(contenders)},
        "not_measured": why_not,
    }


def fill(settings: Settings, corpus: Corpus, count: int) -> None:
    """Write so many accepted events as ingest does; where the corpus ends it begins anew.

    Raises LoadTestError where not all of them are in the topic.
    """
    client = admin(settings)
    before = end_offsets(client, [SHARD])[SHARD]
    sender = producer(settings)
    _send(sender, corpus, count)
    waiting = sender.flush(FILL_S)
    there = end_offsets(client, [SHARD])[SHARD] - before
    if waiting or there != count:
        raise LoadTestError(f"{there:,} of {count:,} records were taken")


def _send(sender: Producer, corpus: Corpus, count: int) -> None:
    topic, partition = SHARD
    keys = [corpus.did(number).encode() for number in range(corpus.header.devices)]
    registry_offset = ("registry.offset", b"%d" % (corpus.header.devices + corpus.header.nurses))
    raw = [RAW_TOPIC_OF[kind] for kind in KINDS]
    devices, kinds = corpus.index.devices.tolist(), corpus.index.kinds.tolist()
    for number in range(count):
        at = number % len(corpus.index)
        source = f"{raw[kinds[at]]}/{partition}/{number}".encode()
        while True:
            try:
                sender.produce(
                    topic,
                    value=corpus.envelope(at),
                    key=keys[devices[at]],
                    partition=partition,
                    headers=[registry_offset, ("source", source)],
                )
            except BufferError:
                sender.poll(0.01)
                continue
            break
        if number % 1000 == 0:
            sender.poll(0)


def drain_seal(stack: Site, count: int, show: LoadShow) -> Drained:
    """Let one sealer alone work off what lies in `device.events`."""
    log = store_of(stack.settings, SHARD).root
    os.sync()  # nobody is to wait for the bytes that another wrote
    with worker(stack.settings, "seal") as pid:
        broker = stack.pids().get("kafka")
        return _watch(SEAL, pid, broker, log, count, show)


def drain_tessera(
    program: Path, settings: Settings, count: int, show: LoadShow
) -> tuple[Drained, dict[str, Any]]:
    """Let Tessera append the leaves that are published, in a folder beside them: the same disk.

    Returns what was seen, and what its process says of itself. Raises LoadTestError where its log is not ours
    or not signed, and ChildError where it fails.
    """
    ours, folder = store_of(settings, SHARD).root, settings.data_dir / "tessera"
    folder.mkdir()
    log, entries = folder / "log", folder / "entries"
    with entries.open("wb") as file:
        file.writelines(bundles(ours))
    interval_ms = round(settings.checkpoint_interval_s * 1000)
    job = {
        "entries": str(entries),
        "folder": str(log),
        "batch_size": BATCH_SIZE,
        "batch_age_ms": interval_ms,
        "checkpoint_ms": interval_ms,
    }
    said: dict[str, Any] = {}
    os.sync()  # as before
    with Child(TESSERA, job, said.update, command=[str(program.resolve())]) as child:
        given = child.wait_ready()
        if given["entries"] != count:
            raise LoadTestError(f"{given['entries']:,} leaves are published, not {count:,}")
        drained = _watch(TESSERA, child.pid, None, log, count, show, child.check)
        _wait_over(child, said)
        child.end()
    signed = open_checkpoint((log / "checkpoint").read_bytes(), parse_vkey(given["key"])).checkpoint
    sealed = parse_checkpoint(parse_note((ours / "checkpoint").read_bytes()).text)
    if (signed.size, signed.root) != (sealed.size, sealed.root):
        raise LoadTestError(f"{TESSERA} has signed another tree than {SEAL} of the same {count:,} leaves")
    return drained, {name: said[name] for name in ("seconds", "user_s", "system_s", "rss_mib")}


def _watch(  # noqa: PLR0917 - who, where, and how far
    name: str,
    pid: int,
    broker: int | None,
    log: Path,
    count: int,
    show: LoadShow,
    check: Callable[[], None] = lambda: None,
) -> Drained:
    """Look at a process until the checkpoint of its log covers so many leaves."""

    def done() -> int:
        check()
        return published_size(log)

    def on_progress(done: int) -> None:
        show.step(f"{name}: {done * 100 // count} % of {count:,}")

    return watch(name, lambda: {name: pid}, broker, done, count, on_progress, every_s=OFTEN_S)


def _wait_over(child: Child, said: Mapping[str, Any]) -> None:
    """Wait until it says that it has seen its last checkpoint itself, shortly after us."""
    until_s = time.monotonic() + OVER_S
    while "over" not in said:
        child.check()
        if time.monotonic() > until_s:
            raise LoadTestError(f"{TESSERA} has published all and does not say that it is over")
        time.sleep(OFTEN_S)


def _tell(drained: Drained, show: LoadShow) -> None:
    show.say(f"{drained.name}: {drained.rate:,.0f}/s, {drained.cpu_us:,.1f} us CPU a leaf")


def _ratio(contenders: dict[str, dict[str, Any]]) -> float | None:
    """Return Tessera's CPU time over ours; None where one is missing."""
    if TESSERA not in contenders or not contenders[SEAL]["cpu_us"]:
        return None
    return round(float(contenders[TESSERA]["cpu_us"]) / float(contenders[SEAL]["cpu_us"]), 2)
