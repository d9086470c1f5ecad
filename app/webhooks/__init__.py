"""Webhooks: allowed targets, payload, signature, delivery.  The courier is a separate process, see `app.background`."""
