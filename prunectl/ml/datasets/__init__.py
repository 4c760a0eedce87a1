"""Data sets: a registry free of torch, one small reader per file format, and `images.load`."""
