"""Detectors over what one person does across devices; deterministic, bounded, no IO."""

from processors.access.profile.config import ProfileConfig
from processors.access.profile.memory import Profile, decode_profile, person_key
from processors.access.profile.profiler import Profiled, Profiler, Profiles

__all__ = [
    "Profile",
    "ProfileConfig",
    "Profiled",
    "Profiler",
    "Profiles",
    "decode_profile",
    "person_key",
]
