"""Prometheus metrics of the stages; counted once a batch, never once a record."""

from prometheus_client import Counter, Gauge, Histogram

ACCEPTED = Counter("attestream_accepted_total", "Events accepted", ["topic"])
REJECTED = Counter("attestream_rejected_total", "Records rejected", ["topic", "reason"])
FINDINGS = Counter("attestream_findings_total", "Findings written", ["rule"])
BATCH_SECONDS = Histogram(
    "attestream_batch_seconds",
    "From the end of consume to the end of commit",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 20),
)
RECOVERIES = Counter("attestream_recoveries_total", "Sessions that failed and were begun anew", ["stage"])
REGISTRY_OFFSET = Gauge("attestream_registry_offset", "Position in the registry topic")
REGISTRY_FRESH = Gauge("attestream_registry_fresh", "1 when the registry view is fresh")
LEAVES = Counter("attestream_leaves_total", "Leaves added to trees", ["topic"])
CHECKPOINTS = Counter("attestream_checkpoints_total", "Checkpoints signed", ["topic"])
SHARDS_STOPPED = Gauge("attestream_shards_stopped", "Shards that stopped loudly")
ANCHORED_SIZE = Gauge("attestream_anchored_size", "Epoch-log size of the newest confirmed anchor")
WITNESS_ANSWERS = Counter(
    "attestream_witness_answers_total", "Answers of witnesses to a checkpoint", ["witness", "outcome"]
)
WITNESS_QUORUM_MISSED = Counter(
    "attestream_witness_quorum_missed_total", "Checkpoints that too few witnesses cosigned in time"
)
ANCHOR_ATTEMPTS = Counter("attestream_anchor_attempts_total", "Submissions to the ledger", ["outcome"])
INTEGRITY_OPEN = Gauge("attestream_integrity_findings_open", "Open findings about the log itself", ["rule"])
MONITOR_LEAVES = Counter("attestream_monitor_leaves_total", "Leaves compared with their records", ["look"])
MONITOR_BLIND = Gauge("attestream_monitor_blind", "1 while the monitor cannot see this part", ["part"])
MONITOR_PASS_SECONDS = Gauge(
    "attestream_monitor_pass_seconds", "What the last pass over all old entries and tiles took"
)
