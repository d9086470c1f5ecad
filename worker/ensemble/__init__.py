"""The ensemble: face crops in, probabilities of every member and their fusion out.

A stage of the pipeline: knows neither files nor queues.  `backbones` and `members` are the plain networks, `engine`
runs them over a stream of crops.
"""
