"""Tracks: which face of one frame is which face of the next, and where it steadily is.  A stage of the pipeline."""
