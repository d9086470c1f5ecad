"""A job's options, collected from query parameters and form fields as they come, each checked at once."""

from __future__ import annotations

from pydantic import ValidationError

from app.contract.options import JobOptions
from app.http.errors import InvalidOption, invalid_option

MAX_VALUE_BYTES = 64 * 1024


class OptionFields:
    """Options by name, as text."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

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

    def add(self, name: str, value: str) -> None:
        """One more option.  Raises: InvalidOption if it is unknown, repeated, or cannot have this value."""
        self.check_name(name)
        if name in self._values:
            raise InvalidOption(f"{name} is given more than once.", field=name)
        _parse({name: value})
        self._values[name] = value

    def finish(self) -> JobOptions:
        """All of them together.  Raises: InvalidOption if they do not fit together."""
        return _parse(self._values)


def _parse(values: dict[str, str]) -> JobOptions:
    try:
        return JobOptions.model_validate(values)
    except ValidationError as error:
        raise invalid_option(error.errors()) from None
