"""A worker process from start to end, the renderer beside it, and the supervisor of several."""
