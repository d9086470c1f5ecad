"""A job's options and naming, collected from query parameters and form fields and validated on arrival."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from app.contract.naming import METADATA_PREFIX, Naming, name_of_file
from app.contract.options import LISTS, JobOptions
from app.contract.sources import Source
from app.http.errors import InvalidOption, invalid_option

MAX_VALUE_BYTES = 64 * 1024
Place = Literal["query", "form"]


Fields = TypeVar("Fields", bound=BaseModel)


class OptionFields:
    """Options, name and metadata by name, as text.

    Generated clients send the same option in query and form: equal values are accepted.
    """

    def __init__(self) -> None:
        self._values: defaultdict[Place, dict[str, str]] = defaultdict(dict)
        self._files = 0
        self._first_file = ""

    @staticmethod
    def check_name(name: str) -> None:
        """Raises: InvalidOption for an unknown option."""
        if not _is_option(name) and not _is_naming(name) and not _is_source(name):
            known = ", ".join([*JobOptions.model_fields, *Naming.model_fields, *Source.model_fields])
            raise InvalidOption(
                f"Unknown option {name[:64]!r}; the options are: {known}. Send a video in a form's part "
                "`file`, several images in parts `frames`.",
                field=name[:64],
            )

    def add(self, place: Place, name: str, value: str) -> None:
        """Add an option; a list may be several fields of one name.

        Raises: InvalidOption if it is unknown, repeated, or has an invalid value.
        """
        self.check_name(name)
        given = self._values[place]
        if name in given:
            if name not in LISTS:
                raise InvalidOption(f"{name} is given more than once.", field=name)
            value = f"{given[name]},{value}"
        _checked({name: value})
        given[name] = value

    def add_file(self, file_name: str) -> None:
        """Record a file part of the form.  file_name: "" for none."""
        self._files += 1
        self._first_file = self._first_file or name_of_file(file_name)

    def finish(self) -> JobOptions:
        """All options.  Raises: InvalidOption if they are inconsistent."""
        return _parse(JobOptions, {name: value for name, value in self._together().items() if _is_option(name)})

    def naming(self) -> Naming:
        """Name and metadata; the name defaults to that of the files.  Raises: InvalidOption."""
        given = _naming({name: value for name, value in self._together().items() if _is_naming(name)})
        files = self._first_file
        if files and self._files > 1:
            files = f"{files} and {self._files - 1} more"
        return given.model_copy(update={"name": given.name or files or None})

    def source(self) -> Source:
        """The source of the content.  Raises: InvalidOption."""
        return _parse(Source, {name: value for name, value in self._together().items() if _is_source(name)})

    def _together(self) -> dict[str, str]:
        query, form = self._values["query"], self._values["form"]
        for name in query.keys() & form.keys():
            if _checked({name: query[name]}) != _checked({name: form[name]}):
                raise InvalidOption(f"{name} has different values in query and form.", field=name)
        return query | form


def _checked(one: Mapping[str, str]) -> BaseModel:
    """Parse one field.  Raises: InvalidOption if its value is invalid."""
    if all(map(_is_source, one)):
        return _parse(Source, one)
    return _parse(JobOptions, one) if all(map(_is_option, one)) else _naming(one)


def _is_option(name: str) -> bool:
    return name in JobOptions.model_fields


def _is_naming(name: str) -> bool:
    return name in Naming.model_fields or name.startswith(METADATA_PREFIX)


def _is_source(name: str) -> bool:
    return name in Source.model_fields


def _naming(values: Mapping[str, str]) -> Naming:
    """Parse the naming fields: `metadata` is a JSON object, `metadata.KEY` one entry of it."""
    single = {name.removeprefix(METADATA_PREFIX): v for name, v in values.items() if name.startswith(METADATA_PREFIX)}
    given: dict[str, Any] = {name: value for name, value in values.items() if name in Naming.model_fields}
    if single:
        whole = _parse(Naming, {"metadata": given.get("metadata", {})}).metadata
        if twice := whole.keys() & single.keys():
            name = f"{METADATA_PREFIX}{min(twice)}"
            raise InvalidOption(f"{name} is given more than once.", field=name)
        given["metadata"] = whole | single
    return _parse(Naming, given)


def _parse(kind: type[Fields], values: Mapping[str, Any]) -> Fields:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise invalid_option(error.errors()) from None
