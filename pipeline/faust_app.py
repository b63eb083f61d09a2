"""Faust with the settings that our guarantees rest on, in one place with their reasons.

Faust serves where work waits for others and is windowed. One worker has all partitions, since alerts are
about many of them; others stand by and take over. It gets no tables: what a stage must remember is
rebuilt by reading again what it did not acknowledge, so there is no state folder that can fall behind its
changelog. Its `exactly_once` is never used: after a kill -9 it gave more outputs than inputs.
"""

import logging
import ssl
import uuid
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faust import App
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ack_lock

from pipeline.durable import replace_file
from pipeline.inorder import InOrder
from pipeline.settings import Settings, UsageError
from pipeline.stage import state_dir

SESSION_TIMEOUT_S = 10.0
"""A killed worker's partitions move after so long; Faust's own default stalls them for a minute."""
REQUEST_TIMEOUT_S = 15.0
COMMIT_INTERVAL_S = 1.0


def make_app(settings: Settings, stage: str, slot: int) -> App:
    """Make the application of a stage's slot; agents are the caller's to add."""
    transport = _read_committed_transport()

    class ReadCommittedApp(App):
        """An application on that transport."""

        def _new_transport(self) -> Any:
            return transport(self.conf.broker_consumer, self)

    class OneWorkerAssignor(PartitionAssignor):
        """Gives one member everything, the one that has most of it already; the others stand by."""

        _had: Mapping[str, int] = {}

        def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
            found = {each: self._get_client_metadata(data) for each, data in member_metadata.items()}
            self._had = {
                each: sum(map(len, data.assignment.actives.values())) for each, data in found.items()
            }
            return super()._perform_assignment(cluster, member_metadata)

        def _global_table_standby_assignments(self, assignments: Any, partitions_by_topic: Any) -> Any:
            # Faust's last step before it says who has what; without tables it changes nothing itself.
            chosen = max(assignments, key=lambda each: (self._had.get(each, 0), each))
            for member, assignment in assignments.items():
                if member == chosen:
                    assignment.actives = {topic: list(range(n)) for topic, n in partitions_by_topic.items()}
                else:
                    assignment.actives = {}
            return super()._global_table_standby_assignments(assignments, partitions_by_topic)

    _quieten()
    name = f"{settings.log_name}.{stage}"
    return ReadCommittedApp(
        name,
        broker=[f"kafka://{server.strip()}" for server in settings.bootstrap().split(",")],
        broker_credentials=credentials(settings.kafka_properties()),
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=1.0,
        broker_request_timeout=REQUEST_TIMEOUT_S,
        broker_commit_interval=COMMIT_INTERVAL_S,
        # A slot that restarts takes its place back at once, without waiting for the session to end. On
        # another machine the same slot is another member: two of one id would oust each other for ever.
        consumer_group_instance_id=f"{name}.{slot}.{_own_id(state_dir(settings, stage, slot))}",
        PartitionAssignor=OneWorkerAssignor,
        # A group's first start reads everything that there is; later ones start where they stopped.
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        producer_request_timeout=REQUEST_TIMEOUT_S,
        producer_linger=0.005,
        store="memory://",
        datadir=str(state_dir(settings, stage, slot)),
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        key_serializer="raw",
        value_serializer="raw",
        # What was not acknowledged comes again, so nothing is waited for when partitions move.
        stream_wait_empty=False,
        # aiokafka's heartbeat needs the loop; large buffers only delay it.
        stream_buffer_maxsize=1024,
    )


def _own_id(folder: Path) -> str:
    """Return what names a slot's folder among those of other machines; made at its first start."""
    path = folder / "member"
    try:
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        replace_file(path, uuid.uuid4().hex.encode())
        return path.read_text(encoding="ascii")


def _read_committed_transport() -> Any:
    """Make the class of a transport whose consumers read what is committed, and commit what is done."""

    class ReadCommittedThread(driver.AIOKafkaConsumerThread):
        """Faust reads uncommitted unless it is exactly-once; records of aborted transactions never were."""

        def _create_worker_consumer(self, transport: Any) -> Any:
            consumer = super()._create_worker_consumer(transport)
            consumer._isolation_level = "read_committed"  # noqa: SLF001 - Faust has no setting for it
            return consumer

    class ReadCommittedConsumer(driver.Consumer):
        """A consumer of committed records that commits no offset behind one that is not acknowledged.

        Faust's own count passes over the record at the committed offset, over that behind a marker of a
        transaction, and over all before the first acknowledged one where nothing was committed yet: read
        again after a kill they are not.
        """

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._given: defaultdict[Any, InOrder] = defaultdict(InOrder)
            deliver = self.callback

            async def noted(message: Any) -> None:
                self._given[message.tp].give(message.offset)
                await deliver(message)

            self.callback = noted

        async def wait_first(self, *waited: Any, **options: Any) -> Any:
            """Deliver a record without the two tasks that Faust makes for each, where nothing is waited for.

            Faust waits for the delivery or for the suspension of the flow, whatever comes first. With room in
            the queue a delivery never waits.
            """
            is_delivery = len(waited) == 2 and not options
            if (
                not is_delivery
                or self.suspend_flow.is_set()
                or any(each.queue.full() for each in self.app.topics)
            ):
                return await super().wait_first(*waited, **options)
            delivery, suspension = waited
            suspension.close()
            return await delivery

        def _new_consumer_thread(self) -> Any:
            return ReadCommittedThread(self, loop=self.loop, beacon=self.beacon)

        def _new_offset(self, tp: Any) -> int | None:
            with ack_lock:
                found = self._given[tp].next_offset(self._acked_index[tp])
                if found is not None:
                    self._acked[tp] = [offset for offset in self._acked[tp] if offset >= found]
                    self._acked_index[tp] = set(self._acked[tp])
            self._gap.pop(tp, None)
            return found

        async def on_partitions_revoked(self, revoked: Any) -> None:
            for tp in revoked:
                self._given.pop(tp, None)
            await super().on_partitions_revoked(revoked)

        async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
            self._given.clear()  # reading begins anew at what is committed
            await super().on_partitions_assigned(assigned, generation_id)

    class ReadCommittedTransport(driver.Transport):
        """A transport whose consumers read committed records."""

        Consumer = ReadCommittedConsumer

    return ReadCommittedTransport


def hears_kafka(app: App) -> bool:
    """Tell whether the group's coordinator answers; Faust itself goes on as if nothing had happened."""
    client = app.consumer._thread._consumer  # type: ignore[attr-defined]  # noqa: SLF001 - Faust does not say
    return client is not None and client._coordinator.coordinator_id is not None  # noqa: SLF001


def _quieten() -> None:
    # A broker that is away is shown in the health file, not in a line per attempt.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    for name in ("faust", "mode"):
        logging.getLogger(name).setLevel(logging.ERROR)


def credentials(properties: Mapping[str, str]) -> Any:
    """Translate librdkafka's security properties into Faust's; None for plain text.

    Raises UsageError for a protocol or mechanism that Faust's client does not speak.
    """
    from faust.auth import SASLCredentials, SSLCredentials

    protocol = properties.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}:
        message = f"security.protocol {protocol} is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"
        raise UsageError(message)
    context = _ssl_context(properties) if protocol.endswith("SSL") else None
    if protocol == "SSL":
        return SSLCredentials(context)
    if not protocol.startswith("SASL"):
        return None
    mechanism = properties.get("sasl.mechanism", properties.get("sasl.mechanisms", "PLAIN")).upper()
    if mechanism not in {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}:
        message = f"sasl.mechanism {mechanism} is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"
        raise UsageError(message)
    return SASLCredentials(
        mechanism=mechanism,
        username=properties.get("sasl.username", ""),
        password=properties.get("sasl.password", ""),
        ssl_context=context,
    )


def _ssl_context(properties: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=properties.get("ssl.ca.location"))
    certificate = properties.get("ssl.certificate.location")
    if certificate:
        context.load_cert_chain(
            certificate, properties.get("ssl.key.location"), properties.get("ssl.key.password")
        )
    return context
