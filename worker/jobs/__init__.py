"""The worker's Redis and RQ code: jobs, their executions, renditions, and the worker's registration."""
