"""The contract between front end and worker: pure data.

Imports only pydantic, pydantic-settings, fsspec and the standard library: no torch, cv2, redis or web framework.
"""
