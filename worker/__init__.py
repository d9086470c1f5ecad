"""The GPU side of Mien: the pipeline from a video to its labels, the worker that runs it, and its training."""
