"""Alerts as OCSF 1.9 events in CloudEvents 1.0 binary-mode Kafka records.

An alert is a Detection Finding (class 2004); one of a denial is an API Activity (class 6003). No measured
value of a patient comes in: what alerts are made of holds none, and evidence is cited by place and digest.
"""

from processors.ocsf.access import api_activity
from processors.ocsf.alert import AccessFacts, Activity, Alert, Incident, Status
from processors.ocsf.finding import detection_finding
from processors.ocsf.message import encode, headers
from processors.ocsf.reporter import Reporter

__all__ = [
    "AccessFacts",
    "Activity",
    "Alert",
    "Incident",
    "Reporter",
    "Status",
    "api_activity",
    "detection_finding",
    "encode",
    "headers",
]
