"""Receives a request's body: its kind, its options, its upload into the store."""
