"""The newcomer's way: starts the real services on this machine, posts a video to them and shows what comes back.

It speaks to the service by HTTP only, as any client does.  `processes` and `stack` run the services, `clip` makes a
video with a face, `report` shows what came back; the API is called by the package `mien`.
"""


class DemoError(Exception):
    """The demo cannot go on; the message is what its user reads."""
