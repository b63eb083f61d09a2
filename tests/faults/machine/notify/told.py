"""What correlate owes: every record that is worth an alert is told of by a message of `alerts`."""

from collections.abc import Mapping

from tests.faults.machine.notify.covers import Message, is_worth_an_alert
from tests.faults.machine.oracle.formats import Partition, Place, Record, spell
from tests.faults.machine.oracle.found import Found


class Told:
    """Accounts of records and of the messages that cover them."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self.sources = 0
        """Records of source topics."""
        self.next_offsets: dict[Partition, int] = {}
        """Behind the newest record of each source partition."""
        self._worth: set[Place] = set()
        self._untold: set[Place] = set()
        self._covered: dict[Place, str] = {}
        self._doubtful: list[tuple[Place, str]] = []
        self._messages: dict[str, Message] = {}
        self._told_again: list[tuple[Place, str]] = []
        self.told_again = 0
        """How often a record was told of by one more message of another id."""
        self.repeats = 0
        """How often a message came again as it was."""

    def source(self, record: Record) -> None:
        """Take a record of a source topic."""
        self.sources += 1
        self.next_offsets[record.topic, record.partition] = record.offset + 1
        if is_worth_an_alert(record):
            self._worth.add(record.place)
            if record.place not in self._covered:
                self._untold.add(record.place)

    def message(self, message: Message) -> bool:
        """Take a message of `alerts`; False for one that came before."""
        before = self._messages.get(message.uid)
        if before is not None:
            self.repeats += 1
            if before.places != message.places:
                # Who drops it by its id never hears of what it alone tells of.
                where = f"{spell(before.record.place)} and {spell(message.record.place)}"
                self._found.add("repeat_differs", f"{where}: {message.uid} twice, of other records")
            return False
        self._messages[message.uid] = message
        where = spell(message.record.place)
        for place in message.places:
            if place not in self._worth:
                self._doubtful.append((place, where))
            self._untold.discard(place)
            if place in self._covered:
                self._told_again.append((place, where))
            else:
                self._covered[place] = where
        return True

    def pending(self, acknowledged: Mapping[Partition, int]) -> str:
        """Say what correlate still owes; empty when it is quiet.

        A record that is told of and not acknowledged may be told again.
        """
        if self._untold:
            return f"{len(self._untold)} records that are not told of, as {spell(min(self._untold))}"
        behind = [p for p, end in self.next_offsets.items() if acknowledged.get(p, 0) < end]
        return f"correlate to acknowledge {behind}" if behind else ""

    def judge(self, *, is_calm: bool) -> None:
        """Say what is wrong; `is_calm` where nothing happened that lets correlate tell anything again."""
        for place in sorted(self._untold):
            self._found.add("alert_lost", f"{spell(place)} is told of by no alert")
        for place, where in self._doubtful:
            if place not in self._worth:
                self._found.add(
                    "alert_invented", f"{where} covers {spell(place)}, which is not worth an alert"
                )
        if is_calm:
            for place, where in self._told_again:
                first = self._covered[place]
                self._found.add("told_again", f"{spell(place)} by {first} and, without a fault, by {where}")
        self.told_again += len(self._told_again)
        self._doubtful, self._told_again = [], []
