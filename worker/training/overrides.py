"""Overrides of settings: `path=value` changes in a tree of dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from worker.training.errors import RecipeError

AnySettings = TypeVar("AnySettings")


def replaced(settings: AnySettings, overrides: Iterable[str]) -> AnySettings:
    """A tree of settings dataclasses with `path=value` changes.  Raises: RecipeError for an unknown path or value."""
    for override in overrides:
        path, separator, value = override.partition("=")
        if not separator:
            raise RecipeError(f"a setting is given as path=value, for example static.epochs=3, got {override!r}")
        settings = _replaced(settings, path.strip().split("."), value.strip(), path)
    return settings


def _replaced(node: Any, path: list[str], value: str, whole: str) -> Any:
    names = [f.name for f in dataclasses.fields(node)]
    if path[0] not in names:
        raise RecipeError(f"no setting {whole!r}: {path[0]!r} is not one of {', '.join(names)}")
    current = getattr(node, path[0])
    if dataclasses.is_dataclass(current):
        if len(path) == 1:
            raise RecipeError(f"{whole!r} is a group of settings, name one of them: {whole}.NAME=VALUE")
        return dataclasses.replace(node, **{path[0]: _replaced(current, path[1:], value, whole)})
    if len(path) > 1:
        raise RecipeError(f"no setting {whole!r}: {path[0]!r} is a value")
    return dataclasses.replace(node, **{path[0]: _parsed(value, get_type_hints(type(node))[path[0]], whole)})


def _parsed(value: str, kind: Any, whole: str) -> Any:
    origin = get_origin(kind)
    try:
        if origin is Literal:
            if value not in get_args(kind):
                raise RecipeError(f"{whole} must be one of {', '.join(get_args(kind))}, got {value!r}")
            return value
        if origin is tuple:
            item = get_args(kind)[0]
            return tuple(_parsed(part.strip(), item, whole) for part in value.split(",") if part.strip())
        if origin in {Union, UnionType}:
            inner = next(arg for arg in get_args(kind) if arg is not NoneType)
            return None if value.lower() == "none" else _parsed(value, inner, whole)
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        return kind(value)
    except (ValueError, KeyError):
        raise RecipeError(f"{whole}={value!r} is not a valid {getattr(kind, '__name__', kind)}") from None
