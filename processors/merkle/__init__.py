"""RFC 6962 Merkle trees in tiles: hashing, proofs, an incremental tree, authenticated reading. No IO."""
