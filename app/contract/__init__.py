"""What the front end and the worker say to each other: pure data, no torch, no cv2, no redis, no web.

pydantic, pydantic-settings, fsspec and the standard library only.
"""
