"""Options of a job on the command line."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import ValidationError

from app.contract.options import JobOptions

PRIOR_HELP = "balanced, training, or a number from 0 (balanced) to 1 (training); default: the bundle's"

# Options with another name on the command line.
_GIVEN_AS = {"members": "use_members"}


def job_options(**values: Any) -> JobOptions:
    """The validated options.  Raises: typer.BadParameter, which names the invalid one."""
    try:
        return JobOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "options"
        where = "--" + _GIVEN_AS.get(field, field).replace("_", "-")
        raise typer.BadParameter(first["msg"].removeprefix("Value error, "), param_hint=where) from None
