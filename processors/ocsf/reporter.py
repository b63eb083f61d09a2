"""Who reports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: the log's name and the product's version."""

    log_name: str
    product_version: str

    @property
    def source(self) -> str:
        """CloudEvents `source`: with the event's id it is unique."""
        return f"urn:attestream:{self.log_name}:correlate"
