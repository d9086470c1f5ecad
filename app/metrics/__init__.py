"""Prometheus metrics: `requests` of this process, and `fleet` of the whole service, the same in all front ends."""
