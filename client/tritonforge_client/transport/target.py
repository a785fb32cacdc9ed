"""From a target such as ``grpc://localhost:8001`` to its transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from tritonforge_client.core.resolve import Name
from tritonforge_client.errors import InvalidInput
from tritonforge_client.tls import TLS
from tritonforge_client.transport.base import AsyncTransport, Transport

T = TypeVar("T")

_DEFAULT_PORTS: Final = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 8000}
_ALL_ADDRESSES: Final = "+dns"
# How gRPC itself writes a name whose every address is meant.
_GRPC_NAME: Final = "dns:///"
_EXPECTED: Final = (
    "grpc://host:port, http://host:port, or grpcs:// and https:// for TLS; each with +dns, as in grpc+dns://host:port, "
    "for all addresses of the host"
)


@dataclass(frozen=True, slots=True)
class _Target:
    """One target.

    Attributes:
        text: As it was given.
        scheme: One of ``_DEFAULT_PORTS``.
        host: Name or address.
        port: Port.
        is_name: Whether every address of the host is an endpoint.
    """

    text: str
    scheme: str
    host: str
    port: int
    is_name: bool


def transports_of(target: str | Sequence[str], tls: TLS | None = None) -> tuple[list[Transport], dict[int, Name]]:
    """Return a transport to each target. Nothing is sent yet, and no name is asked.

    Args:
        target: ``grpc://host:port`` or ``http://host:port``, over TLS ``grpcs://`` or ``https://``; the port may be
            left out for Triton's own, 8001 and 8000. With ``+dns`` after the scheme every address of the host is
            meant; ``dns:///host:port`` is ``grpc+dns://host:port``. Or several of one protocol.
        tls: Certificates; only for TLS.

    Returns:
        The transports, and for those to a host whose every address is meant, by their index, how to reach these.

    Raises:
        InvalidInput: A target has another form, their protocols differ, or certificates are given for one without TLS.
    """
    from tritonforge_client.transport.resolver import Resolver

    return _made(target, tls, _transport_to, Resolver)


def async_transports_of(
    target: str | Sequence[str], tls: TLS | None = None
) -> tuple[list[AsyncTransport], dict[int, Name]]:
    """Return a transport to each target, for the running event loop. Nothing is sent yet, and no name is asked.

    Args:
        target: As for ``transports_of``.
        tls: As for ``transports_of``.

    Returns:
        As ``transports_of``.

    Raises:
        InvalidInput: As for ``transports_of``.
    """
    from tritonforge_client.transport.resolver_aio import AsyncResolver

    return _made(target, tls, _async_transport_to, AsyncResolver)


def _made(
    target: str | Sequence[str],
    tls: TLS | None,
    maker: Callable[[_Target, TLS | None], Callable[[str | None], T]],
    resolver: Callable[[str, int], Any],
) -> tuple[list[T], dict[int, Name]]:
    transports, names = [], {}
    for index, one in enumerate(_targets_of(target)):
        transport_to = maker(one, _tls_of(one, tls))
        transports.append(transport_to(None))
        if one.is_name:
            names[index] = Name(resolver(one.host, one.port), transport_to)
    return transports, names


# Each library is imported only for its own scheme: either may be missing or unwanted.


def _transport_to(target: _Target, tls: TLS | None) -> Callable[[str | None], Transport]:
    """How to make the transport to one address of a target, or to the host as such."""
    host, port = target.host, target.port
    context = tls.ssl_context() if tls is not None else None
    if target.scheme.startswith("grpc"):
        from tritonforge_client.transport.grpc import GrpcTransport

        return lambda address: GrpcTransport(address or host, port, tls=context, name=host)
    from tritonforge_client.transport.http import HttpTransport

    return lambda address: HttpTransport(address or host, port, tls=context, name=host)


def _async_transport_to(target: _Target, tls: TLS | None) -> Callable[[str | None], AsyncTransport]:
    host, port = target.host, target.port
    context = tls.ssl_context() if tls is not None else None
    if target.scheme.startswith("grpc"):
        from tritonforge_client.transport.grpc_aio import AsyncGrpcTransport

        return lambda address: AsyncGrpcTransport(address or host, port, tls=context, name=host)
    from tritonforge_client.transport.http_aio import AsyncHttpTransport

    return lambda address: AsyncHttpTransport(address or host, port, tls=context, name=host)


def _tls_of(target: _Target, tls: TLS | None) -> TLS | None:
    if target.scheme.endswith("s"):
        return tls if tls is not None else TLS()
    if tls is not None:
        expected, got = "a target grpcs:// or https:// for tls", repr(target.text)
        raise InvalidInput(f"tls: expected {expected}, got {got}", field="tls", expected=expected, got=got)
    return None


def _targets_of(target: str | Sequence[str]) -> list[_Target]:
    try:
        targets = [_target(one) for one in ([target] if isinstance(target, str) else target)]
    except TypeError as error:
        raise _target_error(target) from error
    if len({one.scheme for one in targets}) != 1:
        expected = f"one target {_EXPECTED}, or several of one protocol"
        text = f"target: expected {expected}, got {target!r}"
        raise InvalidInput(text, field="target", expected=expected, got=repr(target))
    return targets


def _target(text: str) -> _Target:
    try:
        is_grpc_name = text.startswith(_GRPC_NAME)
        parts = urlsplit(f"grpc{_ALL_ADDRESSES}://{text.removeprefix(_GRPC_NAME)}" if is_grpc_name else text)
        host, port = parts.hostname, parts.port
    except (AttributeError, TypeError, ValueError) as error:
        raise _target_error(text) from error
    scheme = parts.scheme.removesuffix(_ALL_ADDRESSES)
    beyond = parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment
    if scheme not in _DEFAULT_PORTS or not host or beyond or port == 0:
        raise _target_error(text)
    port = port if port is not None else _DEFAULT_PORTS[scheme]
    return _Target(text, scheme, host, port, is_name=scheme != parts.scheme)


def _target_error(target: object) -> InvalidInput:
    return InvalidInput(
        f"target: expected {_EXPECTED}, got {target!r}", field="target", expected=_EXPECTED, got=repr(target)
    )


def endpoint_text(host: str, port: int) -> str:
    """Return ``host:port``, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
