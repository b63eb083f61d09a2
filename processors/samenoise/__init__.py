"""Devices that report the same noise: where prints of many devices meet; deterministic, bounded, no IO."""

from processors.samenoise.meetings import Noticed, SameNoise
from processors.samenoise.memory import NoiseMemory

__all__ = ["NoiseMemory", "Noticed", "SameNoise"]
