"""Forwarded headers: `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`, accepted from trusted proxies only."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~\-]{1,64}){1,8}/?")

_MARK = b"x-forwarded-"
ADDRESSES = 1024  # size of the cache of trusted and untrusted addresses

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ForwardedMiddleware:
    """Sets the client's original address, scheme, host and path prefix in the scope."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        """trusted: addresses and networks of proxies, or `*`.  Raises: ValueError if one is neither."""
        self.app = app
        self._everyone = "*" in trusted
        self._networks: list[Network] = [ipaddress.ip_network(name) for name in trusted if name != "*"]
        self._trusts = lru_cache(ADDRESSES)(self._is_trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if (
            scope["type"] == "http"
            and client is not None
            and any(name.startswith(_MARK) for name, _ in scope["headers"])
            and self._trusts(client[0])
        ):
            # In place, so that outer middleware sees the same values.
            scope.update(self._rewritten(scope, client))
        await self.app(scope, receive, send)

    def _rewritten(self, scope: Scope, client: tuple[str, int]) -> dict[str, object]:
        headers = Headers(scope=scope)
        changed: dict[str, object] = {}
        hops = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",") if hop.strip()]
        # The rightmost untrusted hop: the client may have forged the entries to its left.
        outer = next((hop for hop in reversed(hops) if not self._trusts(hop)), hops[0] if hops else None)
        if outer is not None:
            changed["client"] = (outer, client[1])
        scheme = headers.get("x-forwarded-proto", "").lower()
        if scheme in {"http", "https"}:
            changed["scheme"] = scheme
        host = headers.get("x-forwarded-host", "")
        if _HOST.fullmatch(host):
            kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
            changed["headers"] = [*kept, (b"host", host.encode("ascii"))]
        prefix = headers.get("x-forwarded-prefix", "")
        if _PREFIX.fullmatch(prefix):
            root = prefix.rstrip("/")
            # The proxy strips the prefix from the path; routing expects it.
            changed |= {"root_path": root, "path": root + scope["path"]}
        return changed

    def _is_trusted(self, address: str) -> bool:
        if self._everyone:
            return True
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self._networks)
