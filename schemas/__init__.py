"""What crosses a boundary: schemas, codec, envelope, and the formats of note, checkpoint, tile and proof."""
