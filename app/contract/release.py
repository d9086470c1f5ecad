"""The version of this release."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The version of the installed package, also that of its wheel and image; "0" if it is not installed."""
    try:
        return version("mien")
    except PackageNotFoundError:
        return "0"
