"""Accuracy and speed: `worker bench` and `worker evaluate-detector`."""
