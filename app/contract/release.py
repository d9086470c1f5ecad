"""Which release this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The version of the installed package, as its wheel and its image carry it; "0" where it is not installed."""
    try:
        return version("mien")
    except PackageNotFoundError:
        return "0"
