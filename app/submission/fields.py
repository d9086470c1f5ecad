"""A job's options, collected from query parameters and form fields as they come, each checked at once."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from pydantic import ValidationError

from app.contract.options import LISTS, JobOptions
from app.http.errors import InvalidOption, invalid_option

MAX_VALUE_BYTES = 64 * 1024
Place = Literal["query", "form"]


class OptionFields:
    """Options by name, as text.  Generated clients send the same option in query and form: equal values are one."""

    def __init__(self) -> None:
        self._values: defaultdict[Place, dict[str, str]] = defaultdict(dict)

    @staticmethod
    def check_name(name: str) -> None:
        """Raises: InvalidOption if there is no such option."""
        if name not in JobOptions.model_fields:
            known = ", ".join(JobOptions.model_fields)
            raise InvalidOption(
                f"There is no option {name[:64]!r}; there are: {known}. What is to be labelled goes in a form's part "
                "`file`, several images in parts `frames`.",
                field=name[:64],
            )

    def add(self, place: Place, name: str, value: str) -> None:
        """One more option; a list may come as several fields of one name.

        Raises: InvalidOption if it is unknown, repeated, or cannot have this value.
        """
        self.check_name(name)
        given = self._values[place]
        if name in given:
            if name not in LISTS:
                raise InvalidOption(f"{name} is given more than once.", field=name)
            value = f"{given[name]},{value}"
        _parse({name: value})
        given[name] = value

    def finish(self) -> JobOptions:
        """All of them together.  Raises: InvalidOption if they do not fit together."""
        query, form = self._values["query"], self._values["form"]
        for name in query.keys() & form.keys():
            if _parse({name: query[name]}) != _parse({name: form[name]}):
                raise InvalidOption(f"{name} has one value in the query and another in the form.", field=name)
        return _parse(query | form)


def _parse(values: dict[str, str]) -> JobOptions:
    try:
        return JobOptions.model_validate(values)
    except ValidationError as error:
        raise invalid_option(error.errors()) from None
