"""Model bundles: their format, their verification, and the default bundle.

Independent of front end and worker: a bundle is data, and the worker interprets its tensors.
"""
