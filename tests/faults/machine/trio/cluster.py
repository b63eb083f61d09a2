"""Three brokers on loopback, each of them also a controller, tied to the starting thread's life."""

import base64
import os
import shutil
import signal
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.local import aot, jars, jvm
from pipeline.local.files import LOOPBACK, free_port
from pipeline.local.kafka import START_DEADLINE_S, STOP_GRACE_S, broker_properties
from pipeline.local.process import spawn, stop, tail

NODES = (1, 2, 3)
POLL_S = 0.1
EXTRA_PROPERTIES = {
    "min.insync.replicas": "2",  # also of Kafka's own topics
    "default.replication.factor": "3",
    # The other two give it a full second and a half more than their own heartbeat takes on a busy machine.
    "broker.session.timeout.ms": "2000",
}
"""Of every broker, before those of the local stack."""


class ClusterError(Exception):
    """The cluster did not come to the state that was asked for."""


@dataclass(slots=True)
class Node:
    """One broker and controller: its files, its ports, its process."""

    number: int
    home: Path
    port: int
    controller_port: int
    process: "subprocess.Popen[bytes] | None" = None
    is_paused: bool = False

    @property
    def storage(self) -> Path:
        """Kafka's log directory."""
        return self.home / "data"

    @property
    def log_path(self) -> Path:
        """What it prints."""
        return self.home / "kafka.log"

    @property
    def is_up(self) -> bool:
        """Running and not stood still."""
        return self.process is not None and self.process.poll() is None and not self.is_paused


@dataclass(slots=True)
class Cluster:
    """Start it, kill and revive its nodes, stop it: all from one thread."""

    folder: Path
    cache_dir: Path = field(default_factory=jars.default_cache_dir)
    nodes: dict[int, Node] = field(default_factory=dict)
    _admin: AdminClient | None = None

    @property
    def bootstrap_servers(self) -> str:
        """All three, since any of them may be away."""
        return ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes.values())

    def start(self) -> None:
        """Format and start all three; returns when each sees all of them."""
        jars.prepare(self.cache_dir)
        taken: set[int] = set()
        for number in NODES:
            port = free_port(taken=taken)
            controller_port = free_port(taken={*taken, port})
            taken |= {port, controller_port}
            self.nodes[number] = Node(number, self.folder / f"broker-{number}", port, controller_port)
        cluster_id = base64.urlsafe_b64encode(b"\x00" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        with ThreadPoolExecutor(len(NODES)) as pool:
            list(pool.map(lambda node: self._format(node, cluster_id), self.nodes.values()))
        for number in NODES:
            self.revive(number)
        self.wait_until_whole(START_DEADLINE_S)

    def stop(self) -> None:
        """End all three."""
        for node in self.nodes.values():
            self.resume(node.number)
            if node.process is not None and node.process.poll() is None:
                node.process.terminate()
        for node in self.nodes.values():
            if node.process is not None:
                stop(node.process, STOP_GRACE_S)

    # ---- what happens to a node ------------------------------------------------------------------------

    def kill(self, number: int) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self.nodes[number].process
        assert process is not None
        process.kill()
        process.wait()

    def revive(self, number: int) -> None:
        """Start it (again); does not wait."""
        node = self.nodes[number]
        temporary = node.home / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        options = [f"-Djava.io.tmpdir={temporary}", f"-XX:ErrorFile={node.home}/crash.log"]
        if cache := aot.usable(self.cache_dir):
            options += [f"-XX:AOTCache={cache}", "-Xlog:aot*=error"]
        properties = str(node.home / "server.properties")
        command = jvm.command(self.cache_dir, "kafka.Kafka", [properties], options)
        node.process = spawn(command, node.log_path)

    def pause(self, number: int) -> None:
        """SIGSTOP: its connections stay, and it says nothing."""
        process = self.nodes[number].process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        self.nodes[number].is_paused = True

    def resume(self, number: int) -> None:
        """SIGCONT, where it was stood still."""
        node = self.nodes[number]
        if node.is_paused and node.process is not None:
            with suppress(ProcessLookupError):
                os.kill(node.process.pid, signal.SIGCONT)
        node.is_paused = False

    # ---- what is so ------------------------------------------------------------------------------------

    @property
    def admin(self) -> AdminClient:
        """An admin client of all three, made anew after trouble."""
        if self._admin is None:
            quick = {"socket.timeout.ms": 3000, "reconnect.backoff.max.ms": 200, "log_level": 0}
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, **quick})
        return self._admin

    def unwell(self) -> str:
        """Say what is missing until every partition has all its replicas in sync; "" when nothing is."""
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is not None:
                return f"broker {node.number} ended: {tail(node.log_path)}"
        try:
            metadata = self.admin.list_topics(timeout=2)
        except KafkaException as error:
            self._admin = None
            return str(error)
        if set(metadata.brokers) != set(NODES):
            return f"brokers {sorted(metadata.brokers)} are there"
        for topic in metadata.topics.values():
            for number, partition in topic.partitions.items():
                if partition.leader < 0 or len(partition.isrs) < len(partition.replicas):
                    return f"{topic}[{number}]: leader {partition.leader}, in sync {partition.isrs}"
        return ""

    def wait_until_whole(self, deadline_s: float) -> None:
        """Wait for all brokers and replicas; ClusterError at the deadline."""
        until = time.monotonic() + deadline_s
        while why := self.unwell():
            if time.monotonic() > until:
                raise ClusterError(f"not whole after {deadline_s:.0f} s: {why}")
            time.sleep(POLL_S)

    # ---- preparation -----------------------------------------------------------------------------------

    def _format(self, node: Node, cluster_id: str) -> None:
        node.home.mkdir(parents=True)
        voters = ",".join(f"{n.number}@{LOOPBACK}:{n.controller_port}" for n in self.nodes.values())
        values = broker_properties(
            node_id=node.number,
            data_dir=node.storage,
            port=node.port,
            controller_port=node.controller_port,
            voters=voters,
            replication=len(NODES),
        )
        properties = node.home / "server.properties"
        lines = (f"{name}={value}\n" for name, value in {**values, **EXTRA_PROPERTIES}.items())
        properties.write_text("".join(lines), encoding="utf-8")
        arguments = ["format", "-t", cluster_id, "-c", str(properties)]
        done = subprocess.run(
            jvm.command(self.cache_dir, "kafka.tools.StorageTool", arguments),
            capture_output=True, text=True, check=False, timeout=START_DEADLINE_S,
        )  # fmt: skip
        if done.returncode:
            raise ClusterError(
                f"Kafka could not format {node.storage}: {done.stdout[-1000:]}{done.stderr[-1000:]}"
            )
