"""From a target such as ``grpc://localhost:8001`` to its transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from tritonforge_client.errors import InvalidInput
from tritonforge_client.tls import TLS
from tritonforge_client.transport.base import AsyncTransport, Transport

_DEFAULT_PORTS: Final = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 8000}
_EXPECTED: Final = "grpc://host:port, http://host:port, or grpcs:// and https:// for TLS"


def transport_from_target(target: str, tls: TLS | None = None) -> Transport:
    """Return a transport to a server. Nothing is sent yet.

    Args:
        target: ``grpc://host:port`` or ``http://host:port``, over TLS ``grpcs://`` or ``https://``; the port may be
            left out for Triton's own, 8001 and 8000.
        tls: Certificates; only for TLS.

    Returns:
        The transport.

    Raises:
        InvalidInput: The target has another form, or certificates are given for one without TLS.
    """
    scheme, host, port = _parts(target)
    tls = _tls_of(target, scheme, tls)
    # Each library is imported only for its own scheme: either may be missing or unwanted.
    if scheme.startswith("grpc"):
        from tritonforge_client.transport.grpc import GrpcTransport

        return GrpcTransport(host, port, tls=tls)
    from tritonforge_client.transport.http import HttpTransport

    return HttpTransport(host, port, tls=tls.ssl_context() if tls is not None else None)


def async_transport_from_target(target: str, tls: TLS | None = None) -> AsyncTransport:
    """Return a transport to a server, for the running event loop. Nothing is sent yet.

    Args:
        target: As for ``transport_from_target``.
        tls: As for ``transport_from_target``.

    Returns:
        The transport.

    Raises:
        InvalidInput: As for ``transport_from_target``.
    """
    scheme, host, port = _parts(target)
    tls = _tls_of(target, scheme, tls)
    if scheme.startswith("grpc"):
        from tritonforge_client.transport.grpc_aio import AsyncGrpcTransport

        return AsyncGrpcTransport(host, port, tls=tls)
    from tritonforge_client.transport.http_aio import AsyncHttpTransport

    return AsyncHttpTransport(host, port, tls=tls.ssl_context() if tls is not None else None)


def _tls_of(target: str, scheme: str, tls: TLS | None) -> TLS | None:
    if scheme.endswith("s"):
        return tls if tls is not None else TLS()
    if tls is not None:
        expected = "a target grpcs:// or https:// for tls"
        raise InvalidInput(
            f"tls: expected {expected}, got {target!r}", field="tls", expected=expected, got=repr(target)
        )
    return None


def targets_of(target: str | Sequence[str]) -> list[str]:
    """Return the targets of a client, which all speak one protocol.

    Raises:
        InvalidInput: There is none, or their protocols differ.
    """
    try:
        targets = [target] if isinstance(target, str) else list(target)
    except TypeError as error:
        raise _target_error(target) from error
    schemes = {_parts(one)[0] for one in targets}
    if len(schemes) != 1:
        expected = f"one target {_EXPECTED}, or several of one protocol"
        text = f"target: expected {expected}, got {target!r}"
        raise InvalidInput(text, field="target", expected=expected, got=repr(target))
    return targets


def _parts(target: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(target)
        host, port = parts.hostname, parts.port
    except (AttributeError, TypeError, ValueError) as error:
        raise _target_error(target) from error
    beyond = parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment
    if parts.scheme not in _DEFAULT_PORTS or not host or beyond or port == 0:
        raise _target_error(target)
    return parts.scheme, host, port if port is not None else _DEFAULT_PORTS[parts.scheme]


def _target_error(target: object) -> InvalidInput:
    return InvalidInput(
        f"target: expected {_EXPECTED}, got {target!r}", field="target", expected=_EXPECTED, got=repr(target)
    )


def endpoint_text(host: str, port: int) -> str:
    """Return ``host:port``, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
