"""Which hosts repositories may come from, and at which addresses those are reached.

A name is resolved once and the fetch is pinned to the public addresses found, so that no answer of a name server can
point git at the operator's own network.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from tourney_ray.core.quoting import shown
from tourney_ray.effects.git_answers import RepoUnreachable

_HTTPS_PORT = 443


def host_problem(repo: str, allowed: tuple[str, ...]) -> str:
    """Why the host of the https address `repo` is refused; empty when it is one of `allowed`."""
    host = urlsplit(repo).netloc.lower()
    return "" if host in allowed else f"host {shown(host)} is not one of {', '.join(allowed) or 'none'}"


def pinned(repo: str) -> str:
    """`host:port:address[,…]` of the https address `repo`; empty for a host given as an IP address.

    Raises `RepoUnreachable` when the name does not resolve, or to no public address.
    """
    parts = urlsplit(repo)
    host, port = parts.hostname or "", parts.port or _HTTPS_PORT
    if _is_address(host):
        return ""
    try:
        found = {str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise RepoUnreachable(f"{shown(repo)}: {shown(host)} could not be resolved: {error.strerror}") from error
    public = sorted(address for address in found if ipaddress.ip_address(address).is_global)
    if not public:
        raise RepoUnreachable(f"{shown(repo)}: {shown(host)} has no public address")
    return f"{host}:{port}:{','.join(f'[{a}]' if ':' in a else a for a in public)}"


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False
