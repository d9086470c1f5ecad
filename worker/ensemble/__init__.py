"""The ensemble: face crops in, probabilities of every member and their fusion out.

A stage of the pipeline, independent of files and queues.  `backbones` and `members` define the plain networks;
`engine` runs them over a stream of crops.
"""
