"""The one real broker that every test of a session shares."""

from collections.abc import Iterator

import hypothesis
import pytest

from pipeline.local.kafka import running_kafka

pytest_plugins = ["tests.kit.deployment", "tests.kit.demorun"]

# No deadline: a test must not assert a time, and this one does so by default.
hypothesis.settings.register_profile("attestream", deadline=None)
hypothesis.settings.load_profile("attestream")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Kafka; name topics, groups and transactional ids uniquely."""
    with running_kafka(tmp_path_factory.mktemp("kafka")) as bootstrap_servers:
        yield bootstrap_servers
