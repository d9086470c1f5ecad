"""Tracks: association of faces between frames, and smoothing over time.  A stage of the pipeline."""
