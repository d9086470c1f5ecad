"""How good and how fast: `worker bench` and `worker evaluate-detector`."""
