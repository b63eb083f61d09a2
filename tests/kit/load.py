"""Load for the length of a block: devices that send one after another, from a thread."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from pipeline import topics
from schemas.partition import partition_of
from tests.kit.deployment import Deployment, Device


@contextmanager
def under_load(
    deployment: Deployment, *, devices: int, batch: Callable[[Device], Iterable[bytes]], pause_s: float
) -> Iterator[None]:
    """Send what `batch` makes for each of so many new devices in turn; all of it is acknowledged at the end.

    What a full queue does not take is not sent.
    """
    senders = [deployment.enroll() for _ in range(devices)]
    over = threading.Event()

    def body() -> None:
        for device in itertools.cycle(senders):
            if over.wait(pause_s):
                return
            key = device.did.encode()
            partition = partition_of(key, deployment.settings.partitions)
            for value in batch(device):
                with suppress(BufferError):
                    deployment.producer.produce(
                        topics.TELEMETRY_RAW, key=key, value=value, partition=partition
                    )
            deployment.producer.poll(0)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        assert deployment.producer.flush(60) == 0
