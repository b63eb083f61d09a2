"""Prometheus metrics of the stages; counted once a batch, never once a record.

Names carry their units. What each means to an operator, and which alert watches it, is in docs/operations.md.
"""

from prometheus_client import Counter, Gauge, Histogram

# ---- every stage -------------------------------------------------------------------------------------------

LAST_BEAT = Gauge("attestream_last_beat_seconds", "Unix time of the loop's last beat", ["stage", "slot"])
READY = Gauge("attestream_ready", "1 while the worker has its assignment and its state", ["stage", "slot"])
LAST_PROGRESS = Gauge(
    "attestream_last_progress_seconds",
    "Unix time at which the worker last got something done, or started",
    ["stage", "slot"],
)
RECOVERIES = Counter("attestream_recoveries_total", "Sessions that failed and were begun anew", ["stage"])
FAILED_SESSIONS = Gauge(
    "attestream_failed_sessions", "Sessions in a row that failed before anything got done", ["stage", "slot"]
)
LAG = Gauge("attestream_lag_records", "Records that wait for this worker", ["stage", "topic"])
DATA_FREE_BYTES = Gauge("attestream_data_free_bytes", "Free space under the data folder")
DATA_SIZE_BYTES = Gauge("attestream_data_size_bytes", "Size of the file system of the data folder")
LOG_LINES_LOST = Counter("attestream_log_lines_lost_total", "Log lines that could not be written")
COPIES_DAMAGED = Counter(
    "attestream_working_copies_damaged_total", "Working copies on disk that were damaged and set aside"
)

# ---- ingest ------------------------------------------------------------------------------------------------

ACCEPTED = Counter("attestream_accepted_total", "Events accepted", ["topic"])
REJECTED = Counter("attestream_rejected_total", "Records rejected", ["topic", "reason"])
FINDINGS = Counter("attestream_findings_total", "Findings written", ["rule"])
BATCH_SECONDS = Histogram(
    "attestream_batch_seconds",
    "From the end of consume to the end of commit",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 20),
)
REGISTRY_OFFSET = Gauge("attestream_registry_offset", "Position in the registry topic")
REGISTRY_FRESH = Gauge("attestream_registry_fresh", "1 when the registry view is fresh")
REGISTRY_UNREAD = Counter(
    "attestream_registry_unread_total", "Times that the registry could not be read up in time"
)
POLICY_OFFSET = Gauge("attestream_policy_offset", "Position in the topic of policies")
POLICY_FRESH = Gauge("attestream_policy_fresh", "1 when the view of the policies is fresh")
POLICY_UNREAD = Counter(
    "attestream_policy_unread_total", "Times that the policies could not be read up in time"
)
DECISIONS = Counter("attestream_decisions_total", "Decisions on access", ["effect", "reason"])
PERMITTED_DEVICES = Gauge("attestream_permitted_devices", "Devices at which a permit is live")
RAW_STOPPED = Gauge(
    "attestream_raw_partitions_stopped", "Raw partitions that are not read: records are gone unjudged"
)
RAW_GONE = Gauge("attestream_raw_records_gone", "Records of these that are gone and were never judged")

# ---- profile -----------------------------------------------------------------------------------------------

PROFILED = Counter("attestream_profiled_total", "Decisions on requests that were judged across devices")
NOISE_PRINTS = Counter("attestream_noise_prints_total", "Prints of noise that were compared across devices")
NOISE_MEETINGS = Counter("attestream_noise_meetings_total", "Prints of two devices that were alike")
NOISE_UNREADABLE = Counter("attestream_noise_unreadable_total", "Records of device.prints that are not ours")
PROFILE_STRANGERS = Counter(
    "attestream_profile_strangers_total", "Decisions on requests by names without a profile, which begin none"
)
PROFILE_UNREADABLE = Counter(
    "attestream_profile_unreadable_total", "Records of access.decisions that are not ours"
)

# ---- seal --------------------------------------------------------------------------------------------------

LEAVES = Counter("attestream_leaves_total", "Leaves added to trees", ["topic"])
CHECKPOINTS = Counter("attestream_checkpoints_total", "Checkpoints signed", ["topic"])
SHARDS_STOPPED = Gauge("attestream_shards_stopped", "Shards that stopped loudly")

# ---- anchor ------------------------------------------------------------------------------------------------

ANCHORED_SIZE = Gauge("attestream_anchored_size", "Epoch-log size of the newest confirmed anchor")
ANCHOR_ATTEMPTS = Counter("attestream_anchor_attempts_total", "Submissions to the ledger", ["outcome"])
WITNESS_ANSWERS = Counter(
    "attestream_witness_answers_total", "Answers of witnesses to a checkpoint", ["witness", "outcome"]
)
WITNESS_QUORUM_MISSED = Counter(
    "attestream_witness_quorum_missed_total", "Checkpoints that too few witnesses cosigned in time"
)

# ---- correlate ---------------------------------------------------------------------------------------------

ALERTS = Counter("attestream_alerts_total", "Alerts published", ["severity"])
ALERT_RETRIES = Counter("attestream_alert_retries_total", "Times that Kafka did not take alerts")
NOTICES = Counter("attestream_notices_total", "Findings and rejections read", ["topic"])
NOTICES_UNREADABLE = Counter("attestream_notices_unreadable_total", "Records that are not ours", ["topic"])
NOTICES_FOLDED = Gauge("attestream_notices_folded", "Notices waiting for their group to be told")
ALERTS_SUPPRESSED = Counter("attestream_alerts_suppressed_total", "Alerts held back, kept in the log")
ALERT_CASES = Gauge("attestream_alert_cases", "Alerts that are not over", ["kind"])
CONTROLS_UNREAD = Counter(
    "attestream_alert_controls_unread_total", "Times that what people say of alerts could not be read up"
)
ROUTE_SUPPRESSED = Counter("attestream_route_suppressed_total", "Suppressed alerts, of which nobody is told")

# ---- route -------------------------------------------------------------------------------------------------

ROUTED = Counter("attestream_alerts_routed_total", "Alerts that a party was told of", ["party"])
ROUTE_REPEATS = Counter("attestream_route_repeats_total", "Alerts that came again and were dropped")
ROUTE_NOBODYS = Counter("attestream_route_nobodys_total", "Alerts that fit no party's filter")
ROUTE_UNREADABLE = Counter("attestream_route_unreadable_total", "Records of alerts that are not ours")

# ---- deliver -----------------------------------------------------------------------------------------------

DELIVERED = Counter(
    "attestream_delivered_total", "Alerts that an output's receiver took", ["party", "output"]
)
DELIVERED_SEQUENCE = Gauge(
    "attestream_delivered_sequence", "The party's number of the newest of them", ["party", "output"]
)
DELIVERY_FAILURES = Counter(
    "attestream_delivery_failures_total", "Tries that an output's receiver did not take", ["party", "output"]
)
DELIVERY_FAILING = Gauge(
    "attestream_delivery_failing", "1 while an output cannot deliver", ["party", "output"]
)
DELIVERY_GAPS = Counter(
    "attestream_delivery_gaps_total",
    "Alerts that retention took before they were delivered",
    ["party", "output"],
)
UNDELIVERED = Counter(
    "attestream_undelivered_total", "Alerts that were given up and kept apart", ["party", "output"]
)
DELIVERY_SECONDS = Histogram(
    "attestream_delivery_seconds",
    "From an alert's routing to its delivery",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 20, 60, 600, 3600),
)

# ---- monitor -----------------------------------------------------------------------------------------------

INTEGRITY_OPEN = Gauge("attestream_integrity_findings_open", "Open findings about the log itself", ["rule"])
LEAVES_BEHIND = Gauge("attestream_leaves_behind", "Committed records without a published leaf", ["topic"])
UNANCHORED_SINCE = Gauge(
    "attestream_unanchored_since_seconds",
    "Unix time since which the epoch log has grown beyond what is anchored; 0 while it has not",
)
MONITOR_LEAVES = Counter("attestream_monitor_leaves_total", "Leaves compared with their records", ["look"])
MONITOR_BLIND = Gauge("attestream_monitor_blind", "1 while the monitor cannot see this part", ["part"])
MONITOR_PASS_SECONDS = Gauge(
    "attestream_monitor_pass_seconds", "What the last pass over all old entries and tiles took"
)
