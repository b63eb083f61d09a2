"""Work spread over processes, with results in the order of the tasks and only a few of them in flight."""

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

ORPHANED = 125
IN_FLIGHT_PER_WORKER = 2


def in_order(work: Callable[[T], R], tasks: Iterable[T], jobs: int) -> Iterator[R]:
    """Yield `work(task)` for each task, computed by `jobs` processes; by this one where `jobs` is 1.

    Tasks are asked for as results are taken, so a generator of them may look at what came before. What `work`
    raises is raised here, and ends the rest.
    """
    if jobs <= 1:
        yield from map(work, tasks)
        return
    # Not forked: clients of Kafka do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent)
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) >= IN_FLIGHT_PER_WORKER * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Leave no orphan: a killed parent cannot tell its workers that it is over."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(ORPHANED)

    threading.Thread(target=watch, daemon=True).start()
