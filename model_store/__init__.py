"""Model bundles: their format, their verification, and the bundle that ships.

Knows neither the front end nor the worker: a bundle is data, what its tensors mean is the worker's business.
"""
