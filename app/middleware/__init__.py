"""What happens to every request, whatever its route; plain ASGI, so that streams stay streams."""
