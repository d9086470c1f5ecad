"""The address from which a job's video is fetched: only hosts and buckets that the operator allows."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from app.contract.naming import name_of_file
from app.http.errors import InvalidOption
from app.settings import Settings
from app.webhooks.targets import ForbiddenTargetError, parse_target


def check_source(url: str, settings: Settings) -> None:
    """Raises: InvalidOption if the operator does not allow this `url`."""
    try:
        if url.startswith("s3://"):
            bucket, _, key = url.removeprefix("s3://").partition("/")
            if bucket not in settings.fetch_buckets or not key:
                raise ForbiddenTargetError("the operator does not allow this bucket")
        else:
            parse_target(url, settings.fetch_reach)
    except (ForbiddenTargetError, ValueError) as error:
        raise InvalidOption(f"url: {error}", field="url") from None


def name_of_url(url: str) -> str:
    """The file name in the address."""
    return name_of_file(unquote(urlsplit(url).path))
