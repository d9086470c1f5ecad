"""The processes of a worker: the worker itself, its renderer, and the supervisor of several workers."""
