"""Data: from files on disk to labelled, split, memory-mapped image batches."""
