"""Allowed targets of webhooks and addresses of videos: hosts on the operator's allow-list, at public addresses.

A name is resolved once, all its addresses are checked, and the connection uses a checked address: DNS rebinding has no
effect.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.http.errors import InvalidOption
from app.settings import Reach, Settings

_PORTS = {"https": 443, "http": 80}


class ForbiddenTargetError(Exception):
    """The URL is not allowed; the message is the reason."""


@dataclass(frozen=True)
class Target:
    """A webhook's receiver, or where a video is.  path: includes the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str, reach: Reach) -> Target:
    """Parse a URL.  Raises: ForbiddenTargetError if the operator does not allow it; ValueError if it is malformed."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if not reach.hosts:
        raise ForbiddenTargetError("this service calls no hosts for it")
    if parts.scheme != "https" and not (parts.scheme == "http" and reach.private):
        raise ForbiddenTargetError("the URL must be https")
    if parts.username is not None or parts.password is not None:
        raise ForbiddenTargetError("the URL must not contain a user name or password")
    port = parts.port or _PORTS[parts.scheme]
    allowed = {name.lower() for name in reach.hosts}
    named = host if ":" not in host else f"[{host}]"
    if f"{named}:{port}" not in allowed and not (named in allowed and port == _PORTS[parts.scheme]):
        raise ForbiddenTargetError("the operator does not allow this host")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, path)


def check_target(url: str, settings: Settings) -> None:
    """Raises: InvalidOption if the operator does not allow this `callback_url`."""
    try:
        parse_target(url, settings.callback_reach)
    except (ForbiddenTargetError, ValueError) as error:
        raise InvalidOption(f"callback_url: {error}", field="callback_url") from None


def resolve(target: Target, reach: Reach) -> str:
    """Resolve the receiver to an allowed address.  Blocks.

    Raises: OSError if the name has no address; ForbiddenTargetError if any address is not public.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not reach.private and not is_public(address):
            raise ForbiddenTargetError("the host's address is not public")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is a public unicast address; an IPv4 address embedded in IPv6 is checked itself."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
