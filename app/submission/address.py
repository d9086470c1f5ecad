"""The address from which a job's video is fetched: only hosts and buckets that the operator allows."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from app.contract.naming import name_of_file
from app.http.errors import InvalidOption
from app.settings import Settings
from app.webhooks.targets import ForbiddenTargetError, parse_target

S3 = "s3://"  # before a bucket, a slash and a key, which is not percent-encoded


def check_source(url: str, settings: Settings) -> None:
    """Raises: InvalidOption if the operator does not allow this `url`."""
    try:
        if url.startswith(S3):
            bucket, _, key = url.removeprefix(S3).partition("/")
            if bucket not in settings.fetch_buckets:
                raise ForbiddenTargetError("the operator does not allow this bucket")
            if not key or {".", ".."} & set(key.split("/")):  # proxies in between would shorten such a path
                raise ForbiddenTargetError("name an object of the bucket, without . and .. in its path")
        else:
            parse_target(url, settings.fetch_reach)
    except (ForbiddenTargetError, ValueError) as error:
        raise InvalidOption(f"url: {error}", field="url") from None


def name_of_url(url: str) -> str:
    """The file name in the address."""
    return name_of_file(url if url.startswith(S3) else unquote(urlsplit(url).path))
