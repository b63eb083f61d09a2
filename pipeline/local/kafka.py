"""One real Apache Kafka broker on this machine: prepare, start, wait until ready, stop.

KRaft with both roles in one process, on the loopback interface only. Ports are free ones unless
given, and remembered, so that clients find the broker again after a stop. Formatting happens aside
and is renamed into place; everything else that a crash can leave behind Kafka repairs itself.
"""

import base64
import contextlib
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.local import aot, jars, jvm
from pipeline.local.errors import BrokerFailedError, StackBusyError
from pipeline.local.files import LOOPBACK, accepts, choose_ports, free_port, read_json, write_json
from pipeline.local.process import ProcessId, spawn, stop, tail

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

START_DEADLINE_S = 120.0
START_ATTEMPTS = 3
STOP_GRACE_S = 10.0
POLL_S = 0.05
PROBE_TIMEOUT_S = 1.0


def broker_properties(
    *, node_id: int, data_dir: Path, port: int, controller_port: int, voters: str, replication: int = 1
) -> dict[str, str]:
    """The whole `server.properties` of one combined broker and controller.

    `voters` is `id@host:port`, comma-separated, of every controller; `replication` is that of the
    internal topics. Times are short because a broker that is killed here comes back on its own.
    """
    internal = {
        f"{topic}.replication.factor": str(replication)
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    }
    return {
        "process.roles": "broker,controller",
        "node.id": str(node_id),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data_dir),
        **internal,
        "transaction.state.log.min.isr": str(max(1, replication - 1)),
        "share.coordinator.state.topic.min.isr": str(max(1, replication - 1)),
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.num.partitions": "8",
        "share.coordinator.state.topic.num.partitions": "8",
        "auto.create.topics.enable": "false",  # topics come from one declared list
        "group.initial.rebalance.delay.ms": "0",
        # Back in 5 s after kill -9 instead of 12 s. Not less for one broker alone: when it hears nothing from
        # itself for so long its partitions have no leader for a moment, and a commit in that moment loses its
        # markers (docs/operations.md, Kafka is away).
        "broker.session.timeout.ms": "3000" if replication == 1 else "1000",
        "broker.heartbeat.interval.ms": "200",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "log.cleaner.dedupe.buffer.size": str(16 << 20),  # the default is half of our heap
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
    }


class Broker:
    """One broker whose files are under `data_dir`/kafka and whose log is `data_dir`/run/kafka.log."""

    def __init__(self, data_dir: Path, *, cache_dir: Path | None = None, port: int | None = None) -> None:
        self.cache_dir = cache_dir or jars.default_cache_dir()
        self.log_path = data_dir / "run" / "kafka.log"
        self.extra_options: Sequence[str] = ()
        """Options for the JVM instead of those of the AOT cache."""
        self.runs_for_long = False
        """Whether the JVM compiles what runs for minutes anew; a quick start is all that it else aims at."""
        self.extra_properties: Mapping[str, str] = {}
        """Broker properties that go before our own."""
        self._home = data_dir.resolve() / "kafka"
        self._storage = self._home / "data"
        self._given_port = port
        self._ports: tuple[int, int] | None = None
        self._was_ready = False
        self._probe: AdminClient | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` of the broker; known from the first `argv_for` on."""
        if self._ports is None:
            raise RuntimeError("the broker's ports are chosen by argv_for")
        return f"{LOOPBACK}:{self._ports[0]}"

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Own the broker's directory: StackBusyError when another process does; ends a stale broker."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(jars.locked(self._home / "owner.lock", wait=False))
            except BlockingIOError as error:
                raise StackBusyError(f"a broker in {self._home} is run by another process already") from error
            stale = self._recorded()
            if stale is not None:
                stale.end(STOP_GRACE_S)
            yield

    def prepare(self, on_progress: jars.OnProgress = lambda _done, _total: None) -> None:
        """Fetch what is missing and format the storage once. JarsUnavailableError, BrokerFailedError."""
        jars.prepare(self.cache_dir, on_progress)
        if not (self._storage / "meta.properties").exists():
            self._format()

    def argv_for(self, failures: int) -> list[str]:
        """The command that starts the broker, after `failures` starts in a row that came to nothing.

        Chooses the ports and writes the properties. After a failure the AOT cache is thrown away.
        """
        if self._ports is None or not self._was_ready:
            self._ports = self._choose_ports()
        properties = self._home / "server.properties"
        self._write_properties(properties, self._storage, *self._ports)
        temporary = self._home / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)  # native libraries unpacked by a killed broker
        temporary.mkdir()
        options = [
            f"-Djava.io.tmpdir={temporary}",
            f"-XX:ErrorFile={self.log_path.with_name('kafka-crash.log')}",
        ]
        if self.extra_options:
            options.extend(self.extra_options)
        elif failures > 0:
            aot.discard(aot.path(self.cache_dir))
        elif cache := aot.usable(self.cache_dir):
            options.extend([f"-XX:AOTCache={cache}", "-Xlog:aot*=error"])
        if self.runs_for_long:
            options.extend(jvm.FOR_LONG)
        return jvm.command(self.cache_dir, "kafka.Kafka", [str(properties)], options)

    def record(self, pid: int) -> None:
        """Note the started process, so that a later owner can end it if we crash."""
        write_json(self._pid_path, ProcessId.of(pid).to_json())

    def is_ready(self) -> bool:
        """Whether *this* broker answers (another program may have taken its port). At most a second."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        if self._ports is None or not accepts(self._ports[0]):
            return False
        if self._probe is None:
            self._probe = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        try:
            metadata = self._probe.list_topics(timeout=PROBE_TIMEOUT_S)
        except KafkaException:
            self._probe = None  # an old connection's back-off must not delay the next look
            return False
        ready = bool(metadata.brokers) and metadata.cluster_id == self.cluster_id()
        self._was_ready |= ready
        return ready

    def cluster_id(self) -> str:
        """The id that the storage was formatted with."""
        for line in (self._storage / "meta.properties").read_text("utf-8").splitlines():
            name, _, value = line.partition("=")
            if name == "cluster.id":
                return value
        raise BrokerFailedError(
            f"{self._storage}/meta.properties names no cluster.id: the storage is damaged"
        )

    @property
    def _pid_path(self) -> Path:
        return self._home / "broker.pid.json"

    def _recorded(self) -> ProcessId | None:
        return ProcessId.from_json(read_json(self._pid_path))

    def _format(self) -> None:
        """Format beside the final place and rename: a crash in between leaves nothing half-made."""
        fresh = self._home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        properties = self._home / "format.properties"
        self._write_properties(properties, fresh, 9092, 9093)
        cluster_id = base64.urlsafe_b64encode(b"\x00" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        arguments = ["format", "-t", cluster_id, "-c", str(properties)]
        done = subprocess.run(
            jvm.command(self.cache_dir, "kafka.tools.StorageTool", arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=START_DEADLINE_S,
        )
        if done.returncode != 0:
            raise BrokerFailedError(f"Kafka could not format {fresh}:\n{(done.stdout + done.stderr)[-2000:]}")
        fresh.rename(self._storage)
        properties.unlink()

    def _write_properties(self, path: Path, storage: Path, port: int, controller_port: int) -> None:
        values = broker_properties(
            node_id=1,
            data_dir=storage,
            port=port,
            controller_port=controller_port,
            voters=f"1@{LOOPBACK}:{controller_port}",
        )
        values.update(self.extra_properties)
        path.write_text("".join(f"{name}={value}\n" for name, value in values.items()), "utf-8")

    def _choose_ports(self) -> tuple[int, int]:
        """The given port, or the last one if free, else a free one; remembered for the next start."""
        if self._given_port is not None and free_port(self._given_port) != self._given_port:
            raise BrokerFailedError(f"port {self._given_port} of {LOOPBACK} is taken: give Kafka another one")
        ports = choose_ports(self._home / "ports.json", {"broker": self._given_port, "controller": None})
        return ports["broker"], ports["controller"]


@contextlib.contextmanager
def running_kafka(data_dir: Path, *, cache_dir: Path | None = None, port: int | None = None) -> Iterator[str]:
    """Run a broker on `data_dir` for the length of the block; yields its bootstrap servers.

    Tied to the calling thread's life, so that a killed test run leaves no broker behind.
    """
    broker = Broker(data_dir, cache_dir=cache_dir, port=port)
    with broker.owned():
        broker.prepare()
        process = start(broker)
        try:
            yield broker.bootstrap_servers
        finally:
            stop(process, STOP_GRACE_S)


def start(broker: Broker, should_stop: Callable[[], bool] = lambda: False) -> "subprocess.Popen[bytes]":
    """Start the broker and wait until it answers; BrokerFailedError with the end of its log otherwise."""
    for failures in range(START_ATTEMPTS):
        process = spawn(broker.argv_for(failures), broker.log_path)
        broker.record(process.pid)
        deadline_s = time.monotonic() + START_DEADLINE_S
        try:
            while process.poll() is None and time.monotonic() < deadline_s and not should_stop():
                if broker.is_ready():
                    return process
                time.sleep(POLL_S)
        except BaseException:
            stop(process, STOP_GRACE_S)
            raise
        stop(process, STOP_GRACE_S)
        if should_stop():
            break
    raise BrokerFailedError(
        f"Kafka did not become ready; the end of {broker.log_path}:\n{tail(broker.log_path)}"
    )
