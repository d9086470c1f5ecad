"""Middleware of every request, as plain ASGI, so that responses keep streaming."""
