"""Errors of training; every message is one line for the user.

TrainingError
    DataError            labelled data is missing, malformed or inconsistent
    RecipeError          a setting is unknown or does not fit the others
    CheckpointError      a checkpoint cannot be resumed from
    DeviceTooSmallError  the device has not enough memory for the settings
    Interrupted          Ctrl-C or SIGTERM; a checkpoint was written
"""

from __future__ import annotations


class TrainingError(Exception):
    """Training or evaluation failed."""


class DataError(TrainingError):
    """Labelled data is missing, malformed or inconsistent."""


class RecipeError(TrainingError):
    """A setting is unknown or inconsistent with others."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be resumed from."""


class DeviceTooSmallError(TrainingError):
    """The device has too little memory for the settings."""


class Interrupted(TrainingError):  # noqa: N818 - a state, not a fault
    """The user stopped the training; a checkpoint was written."""
