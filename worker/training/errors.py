"""Errors of training; every message is the one line that a user reads.

TrainingError
    DataError        labelled data is missing, malformed or inconsistent
    RecipeError      a setting is unknown or does not fit the others
    CheckpointError  a checkpoint cannot be resumed from
    OutOfMemory      the device is too small for the settings
"""

from __future__ import annotations


class TrainingError(Exception):
    """Training or measuring cannot go on."""


class DataError(TrainingError):
    """Labelled data is missing, malformed or inconsistent."""


class RecipeError(TrainingError):
    """A setting is unknown or does not fit the others."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be resumed from."""


class OutOfMemory(TrainingError):
    """The device is too small for the settings."""
