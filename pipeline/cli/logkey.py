"""`attestream log rotate-key`: a new key for the log; what the old one signed still verifies."""

import base64

from pipeline.cli.options import DataDir, settings_from


def rotate_key(data_dir: DataDir = None) -> None:
    """Make a new log key. Restart the sealers and hand out the new trust file."""
    from pipeline.trust import key_path, load_trust, rotate_log_key, trust_path

    settings = settings_from(data_dir)
    before = load_trust(trust_path(settings)).log_key
    after = rotate_log_key(settings).log_key
    print(f"new log key  {base64.b64encode(after).decode()}")
    print(f"earlier one  {base64.b64encode(before).decode()}  (listed in previous_log_keys)")
    print(f"Restart the sealers: until then they sign with the earlier key, which {trust_path(settings)}")
    print("still believes. Hand out the new trust file; then remove the earlier key from")
    print(f"{key_path(settings, 'log').parent}.")
