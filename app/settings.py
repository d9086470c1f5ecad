"""Settings of the front end: the shared ones and its own, from the environment with the prefix `MIEN_`."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from app.contract.settings import SharedSettings

SIGNING_PREFIX = "whsec_"  # of Standard Webhooks
SIGNING_BYTES = range(24, 65)


def _split(value: object) -> object:
    """Split `a, b` of an environment variable into a list, without blanks."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]


@dataclass(frozen=True)
class Reach:
    """Which hosts the service calls.  private: also over http, and at addresses that are not public."""

    hosts: tuple[str, ...]
    private: bool


class Settings(SharedSettings):
    """Settings of the front end."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    api_keys: Secrets = Field(
        (),
        description="API keys, comma-separated; empty: open, and then served on loopback addresses only.",
    )
    api_keys_file: str = Field(
        "",
        description="File with a line `NAME SHA256` for each further key, read again when it changes; "
        "`python -m app.admin key NAME` makes one.",
    )
    allow_anonymous: bool = Field(
        False,
        description="Serve without API keys on other addresses than loopback, too (in a private network).",
    )
    min_upload_rate: int = Field(
        1024, ge=0, description="Fewest bytes a second of a request body, over each upload window; 0: no limit."
    )
    upload_window_s: float = Field(20, gt=0, allow_inf_nan=False, description="That window, seconds.")
    upload_ttl_s: int = Field(
        86_400, ge=1, description="How long a resumable upload lives of which no job was made, seconds."
    )
    max_open_uploads: int = Field(100, ge=1, description="Most resumable uploads that a key may have open.")
    max_queue: int = Field(1000, ge=0, description="Most jobs waiting in one queue; 0: no limit.")
    rate_limit: int = Field(0, ge=0, description="Most requests a minute for each key, or address; 0: no limit.")
    quota_jobs: int = Field(0, ge=0, description="Most jobs of one key that wait; 0: no limit.")
    quota_bytes: int = Field(0, ge=0, description="Most bytes of inputs of one key a day (UTC); 0: no limit.")
    quota_frames: int = Field(0, ge=0, description="Frames of one key a day (UTC), then no more jobs; 0: no limit.")
    cors_origins: Words = Field(
        (), description="Origins whose pages may call the API from a browser, comma-separated; * for all."
    )
    public_url: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Where clients reach the API, for links behind a proxy, such as https://example.org/mien.",
    )
    trusted_proxies: Words = Field(
        ("127.0.0.1", "::1"),
        description="Addresses and networks whose X-Forwarded-* headers count, comma-separated; * for all.",
    )
    callback_hosts: Words = Field(
        (), description="Hosts that callback_url may name, comma-separated, such as hooks.example.org; empty: none."
    )
    callback_secret: SecretStr = Field(
        SecretStr(""), description="Secret that signs webhooks: whsec_ and base64 of 24 to 64 bytes."
    )
    callback_private: bool = Field(
        False, description="Allow webhooks over http and to private and loopback addresses of the named hosts."
    )

    fetch_hosts: Words = Field(
        (), description="Hosts that a job's url may name, comma-separated, such as media.example.org; empty: none."
    )
    fetch_buckets: Words = Field((), description="S3 buckets that a job's url may name (s3://BUCKET/KEY); empty: none.")
    fetch_private: bool = Field(
        False, description="Allow urls over http and at private and loopback addresses of the named hosts."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name != "*":
                ipaddress.ip_network(name)
        return value

    @field_validator("callback_secret")
    @classmethod
    def _signs(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            _key_of(value.get_secret_value())
        return value

    @property
    def callback_reach(self) -> Reach:
        """Whom webhooks may reach."""
        return Reach(self.callback_hosts, self.callback_private)

    @property
    def fetch_reach(self) -> Reach:
        """Where videos may be fetched."""
        return Reach(self.fetch_hosts, self.fetch_private)

    @property
    def callback_key(self) -> bytes:
        """The key that signs webhooks."""
        return _key_of(self.callback_secret.get_secret_value())

    @property
    def keys_needed(self) -> bool:
        """Whether callers need an API key."""
        return bool(self.api_keys or self.api_keys_file)

    @property
    def bundle_name(self) -> str:
        """Name of the default model."""
        return PurePosixPath(self.bundle).name

    @property
    def prefix(self) -> str:
        """Path in front of the API's own paths at `public_url`, without a trailing slash; "" where there is none."""
        rest = self.public_url.partition("://")[2].rstrip("/")
        return "/" + rest.partition("/")[2] if "/" in rest else ""

    def refusal(self) -> str | None:
        """The reason why these settings are unsafe to serve, or None."""
        if self.callback_hosts and not self.callback_secret.get_secret_value():
            return "MIEN_CALLBACK_HOSTS is set: set MIEN_CALLBACK_SECRET, too (whsec_ and base64 of 24 to 64 bytes)"
        if self.keys_needed or self.allow_anonymous or _is_loopback(self.host):
            return None
        return (
            f"refusing to serve {self.host} without API keys: set MIEN_API_KEYS or MIEN_API_KEYS_FILE, "
            "or MIEN_ALLOW_ANONYMOUS=true on a private network"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key_of(secret: str) -> bytes:
    """The key of a webhook secret as operators and receivers share it.  Raises: ValueError if it is none."""
    try:
        key = base64.b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if len(key) not in SIGNING_BYTES:
        raise ValueError("whsec_ and base64 of 24 to 64 bytes, such as from: openssl rand -base64 32")
    return key
