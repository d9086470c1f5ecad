"""Prometheus metrics: `requests` of this process, and `fleet`, which Redis tells all front ends alike."""
