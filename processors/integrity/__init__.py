"""What the monitor decides about a log, from bytes and times alone: leaves, histories, delays. No IO."""
