"""The shards of a published log: where each is, which closed ones it follows, and their trees.

What a shard says of itself (`shard.json`) is signed by nobody. It only says where to look: what is found
there has a checkpoint of its own, and the signed lists of shards in the epoch log must name it.
"""

from pathlib import Path

from pipeline.believed import EPOCH_PATH, SHARD_PATH, Believed
from pipeline.logsource import FolderSource, LogSource
from pipeline.shardabout import ABOUT, ShardAbout, ShardAboutError, closed_path, parse_about
from pipeline.tilestore import CHECKPOINT
from processors.merkle.reader import TiledTree

MAX_CLOSED = 100
"""Closed shards that are followed back from one published one."""
_USES_OF_A_TREE = 16
"""A tree keeps the tiles it has checked; opened anew so often, those of many shards stay small."""


def published_paths(source: LogSource) -> set[str]:
    """The shards that a folder holds; a web server does not tell, and the epoch log has to."""
    if not isinstance(source, FolderSource):
        return set()
    folder: Path = source.folder
    paths = {file.parent.relative_to(folder).as_posix() for file in folder.glob(f"*/*/{CHECKPOINT}")}
    return {path for path in paths if SHARD_PATH.fullmatch(path)} - {EPOCH_PATH}


def about(source: LogSource, path: str) -> ShardAbout | None:
    """What the shard at a path says of itself; None for nothing, or nonsense."""
    data = source.at(path).read(ABOUT)
    try:
        return None if data is None else parse_about(data)
    except ShardAboutError:
        return None


def closed_shards(source: LogSource, path: str) -> dict[str, str]:
    """The closed shards that the one at `path` says it follows, newest first: shard id by path."""
    found: dict[str, str] = {}
    said = about(source, path)
    while said is not None and said.predecessor and len(found) < MAX_CLOSED:
        closed = closed_path(path, said.predecessor)
        if closed in found:
            break
        found[closed] = said.predecessor
        said = about(source, closed)
    return found


class PublishedShards:
    """The published trees of the shards, read only as far as they are asked."""

    def __init__(self, source: LogSource, believed: Believed) -> None:
        self._source, self._believed = source, believed
        self._open: dict[str, tuple[list[TiledTree | None], int]] = {}

    def trees(self, origin: str) -> list[TiledTree | None]:
        """The tree of an origin (None: nothing is published), then those of closed shards that it follows.

        Raises FormatError or MerkleError where one of them cannot be believed.
        """
        trees, uses = self._open.get(origin, ([], _USES_OF_A_TREE))
        if uses >= _USES_OF_A_TREE:
            trees, uses = self._trees(origin), 0
        self._open[origin] = trees, uses + 1
        return trees

    def _trees(self, origin: str) -> list[TiledTree | None]:
        path = origin.removeprefix(self._believed.log_name + "/")
        if not SHARD_PATH.fullmatch(path):
            return [None]
        return [self._tree(each, origin) for each in (path, *closed_shards(self._source, path))]

    def _tree(self, path: str, origin: str) -> TiledTree | None:
        source = self._source.at(path)
        data = source.read(CHECKPOINT)
        if data is None:
            return None
        checkpoint = self._believed.open(data, origin)
        return TiledTree(source, checkpoint.size, checkpoint.root)
