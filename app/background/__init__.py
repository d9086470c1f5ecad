"""Background work of the front end, in a separate process: webhooks, recovery, the sweeper, queue timeouts."""
