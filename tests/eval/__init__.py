"""The detectors, measured: anomalies injected into real vitals, baselines, and foreign labelled series."""
