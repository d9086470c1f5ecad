"""The demo: starts the services on this machine, posts a video and prints the labels.

It uses the service by HTTP only, through the package `mien`.  `processes` and `stack` run the services, `clip` makes a
video with a face, `report` prints the results.
"""


class DemoError(Exception):
    """The demo cannot continue; the message is for its user."""
