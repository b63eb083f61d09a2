"""A stopped shard, accepted as lost: it is closed as it stands, and a successor begins on what the topic has.

    look      the shard must have stopped by itself; one that goes on has nothing to accept
    prepare   the successor's folder, complete and durable, beside the old one
    close     the old folder is renamed to `closed/<topic>/<partition>/<shard id>`; nothing in it changes
    begin     the successor takes its place; the sealer, started again, seals the topic from its beginning

Nothing is re-signed and nothing is hidden: the signed list of shards names the successor, the monitor
reports it, and the closed log stays published. The epoch log has no successor: anchors are of the old one.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline import kafka
from pipeline.sealstore import SealStore
from pipeline.settings import Settings, UsageError
from pipeline.shard import Shard, ShardStoppedError, origin_of, store_of
from pipeline.shardabout import ABOUT, ShardAbout, ShardAboutError, closed_path, read_about
from pipeline.statestore import Partition
from pipeline.tilestore import LocalTileStore
from pipeline.topics import CHECKPOINTS, SEALED_TOPICS
from pipeline.trust import log_signers
from processors.merkle.errors import MerkleError
from schemas.errors import FormatError


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was done."""

    closed: Path
    """Where the old log stands now."""
    about: ShardAbout
    """The successor."""


def why_stopped(settings: Settings, place: Partition) -> str | None:
    """Say why a sealer would stop this shard; None when it would go on."""
    _check_place(settings, place)
    if _unfinished(settings, place) is not None:
        return "closing it was begun and not finished"
    admin = kafka.admin(settings)
    with tempfile.TemporaryDirectory(prefix="attestream-accept-") as folder:
        working_copy = SealStore(Path(folder) / "rocksdb")
        signer = log_signers(settings)(origin_of(settings.log_name, place))
        try:
            shard = Shard(settings, place, working_copy, signer, kafka.topic_id(admin, place[0]))
            shard.open(settings, admin)
        except (ShardStoppedError, MerkleError, FormatError) as error:
            return str(error)
        finally:
            working_copy.close()
    return None


def accept(settings: Settings, place: Partition) -> Accepted:
    """Close a stopped shard and begin its successor; raises UsageError for one that has not stopped.

    A crash leaves either the old shard or a move half done, which the next call finishes.
    """
    if why_stopped(settings, place) is None:
        raise UsageError(f"{place[0]}[{place[1]}] has not stopped: there is nothing to accept")
    unfinished = _unfinished(settings, place)
    if unfinished is None:
        unfinished = _prepare(settings, place)
    return _finish(settings, place, unfinished)


def _check_place(settings: Settings, place: Partition) -> None:
    if place[0] not in SEALED_TOPICS:
        raise UsageError(f"{place[0]} is not a sealed topic")
    if place[0] == CHECKPOINTS:
        raise UsageError("the epoch log has no successor: begin a log of another name")
    topics = kafka.admin(settings).list_topics(timeout=kafka.CALL_TIMEOUT_S).topics
    if place[0] not in topics or place[1] not in topics[place[0]].partitions:
        raise UsageError(f"there is no partition {place[1]} of {place[0]}")


def _folder(settings: Settings, place: Partition) -> Path:
    return settings.data_dir / "log" / place[0] / str(place[1])


def _successor_folder(settings: Settings, place: Partition) -> Path:
    folder = _folder(settings, place)
    return folder.with_name(f".{folder.name}.successor")


def _unfinished(settings: Settings, place: Partition) -> ShardAbout | None:
    """Return the successor that was prepared, if it is whole."""
    folder = _successor_folder(settings, place)
    return read_about(LocalTileStore(folder)) if folder.exists() else None


def _prepare(settings: Settings, place: Partition) -> ShardAbout:
    admin = kafka.admin(settings)
    topic_id = kafka.topic_id(admin, place[0])
    try:
        known = read_about(store_of(settings, place)) or ShardAbout(*place, topic_id)
    except ShardAboutError:
        known = ShardAbout(*place, topic_id)  # what it says of itself goes with it into its closed folder
    start = kafka.start_offsets(admin, [place])[place]
    about = known.successor(topic_id, start)
    LocalTileStore(_successor_folder(settings, place)).put(ABOUT, about.encode())
    return about


def _finish(settings: Settings, place: Partition, about: ShardAbout) -> Accepted:
    folder, successor = _folder(settings, place), _successor_folder(settings, place)
    closed = settings.data_dir / "log" / closed_path(f"{place[0]}/{place[1]}", about.predecessor)
    if not closed.exists():
        closed.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(closed)
        # A crash from here on leaves no shard, or an empty one that a sealer made; the next call goes on.
        _sync(folder.parent, closed.parent)
    elif folder.exists():
        if LocalTileStore(folder).read_checkpoint() is not None:
            raise UsageError(f"{folder} has begun anew while {closed} was being closed: look at both")
        shutil.rmtree(folder)
    successor.rename(folder)
    _sync(folder.parent)
    return Accepted(closed, about)


def _sync(*folders: Path) -> None:
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
