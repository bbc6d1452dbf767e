"""Image data: sources, decoding, splits, cache and batches."""
