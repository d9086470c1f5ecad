"""Webhooks: who may be called, and how; the courier that calls is a process of its own, see `app.background`."""
