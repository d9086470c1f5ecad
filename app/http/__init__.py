"""What HTTP needs whatever the resource: problems, keys, caching, formats, addresses, the OpenAPI document."""
