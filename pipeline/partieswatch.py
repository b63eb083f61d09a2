"""The parties file while a stage runs: a new version is noticed, one that cannot be believed is told."""

import time

import structlog

from pipeline.parties import PartiesError, believe_parties, parties_path
from pipeline.settings import Settings

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
PARTIES_REFUSED = "PARTIES FILE REFUSED"


class PartiesWatch:
    """Holds the parties in force; raises PartiesError where there are none to begin with."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen = self._stamp()
        self._looked_at = time.monotonic()
        self.parties = believe_parties(settings)
        self.trouble = ""
        """Why the file that is there now is not in force; empty when it is."""

    def has_changed(self) -> bool:
        """Look once a second; true when another version came into force, which `parties` then is."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return False
        self._looked_at = time.monotonic()
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            found = believe_parties(self._settings)
        except PartiesError as error:
            # Who was told goes on being told: a broken file must not silence anybody.
            self.trouble = f"{PARTIES_REFUSED}: {error}"
            log.error("the parties file is refused, the one before stays in force", error=str(error))
            return False
        self.trouble = ""
        has_changed = found.version != self.parties.version
        self.parties = found
        return has_changed

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = parties_path(self._settings).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
