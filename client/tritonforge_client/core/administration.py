"""What a server says of itself and of its models, and what changes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonforge_client.core.caller import Caller
from tritonforge_client.core.effects import Close, Send, Steps
from tritonforge_client.core.metrics import Metrics, metrics_address, metrics_exchange, no_page_error
from tritonforge_client.core.statistics import ModelStatistics, model_statistics_from_json
from tritonforge_client.errors import ConnectionFailed, InvalidInput
from tritonforge_client.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetadata:
    """A server.

    Attributes:
        name: Its name, ``triton`` unless it was given another.
        version: Its version.
        extensions: The protocol extensions that it has.
    """

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryModel:
    """A model in a server's repositories.

    Attributes:
        name: Model name.
        version: Version; empty for a model that was never loaded.
        state: ``READY``, ``LOADING``, ``UNLOADING`` or ``UNAVAILABLE``; empty when it was never loaded.
        reason: Why it is in that state, where there is something to say.
    """

    name: str
    version: str
    state: str
    reason: str


def server_metadata_from_json(fields: Mapping[str, Any]) -> ServerMetadata:
    """Read the JSON form of ``ServerMetadataResponse``."""
    return ServerMetadata(
        name=str(fields.get("name", "")),
        version=str(fields.get("version", "")),
        extensions=tuple(map(str, fields.get("extensions", ()))),
    )


def repository_model_from_json(fields: Mapping[str, Any]) -> RepositoryModel:
    """Read the JSON form of ``RepositoryIndexResponse.ModelIndex``."""
    return RepositoryModel(**{name: str(fields.get(name, "")) for name in ("name", "version", "state", "reason")})


class Administration:
    """The steps of the calls that concern the server and not a model's answers.

    Args:
        caller: Makes the calls.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def statistics(self, model: str | None, options: Options | None) -> Steps[list[ModelStatistics]]:
        """Read statistics, one entry a model version."""
        options, call = self._caller.begin(options, model=model)
        entries, _ = yield from self._caller.ask(lambda d, _: d.model_statistics(model or ""), options, call)
        return [model_statistics_from_json(entry) for entry in entries]

    def config(self, model: str, version: str | None, options: Options | None) -> Steps[dict[str, Any]]:
        """Read a model's config."""
        options, call = self._caller.begin(options, model=model)
        fields, _ = yield from self._caller.ask(lambda d, _: d.model_config(model, version or ""), options, call)
        return dict(fields)

    def metrics(
        self,
        url: str | None,
        families: Sequence[str],
        transport_to: Callable[[str, int], Any],
        options: Options | None,
    ) -> Steps[Metrics]:
        """Read a metrics page, once: who scrapes soon asks again."""
        # The page is read without TLS, and headers and a token are none of its business.
        _, call = self._caller.begin(options, sends=False)
        host, port, path = metrics_address(url, call.endpoint)
        exchange = metrics_exchange(path, families)
        transport = transport_to(host, port)
        attempt = call.at(transport.endpoint, 1)
        self._caller.passing.add(transport)
        try:
            if self._caller.closed:  # by another thread, which may have missed this transport
                raise attempt.closed_error()
            return exchange.parse((yield Send(transport, exchange.request, attempt)), attempt)
        except ConnectionFailed as error:
            raise no_page_error(error, attempt) from error
        finally:
            self._caller.passing.discard(transport)
            yield Close(transport)

    def server_metadata(self, options: Options | None) -> Steps[ServerMetadata]:
        """Read name, version and extensions of the server."""
        options, call = self._caller.begin(options)
        fields, _ = yield from self._caller.ask(lambda d, _: d.server_metadata(), options, call)
        return server_metadata_from_json(fields)

    def repository_index(self, ready: bool, options: Options | None) -> Steps[list[RepositoryModel]]:
        """List the models of the server's repositories."""
        options, call = self._caller.begin(options)
        entries, _ = yield from self._caller.ask(lambda d, _: d.repository_index(ready=ready), options, call)
        return [repository_model_from_json(entry) for entry in entries]

    # ---- what changes a server is never sent twice ----

    def load_model(
        self,
        model: str,
        config: Mapping[str, Any] | None,
        files: Mapping[str, bytes] | None,
        options: Options | None,
    ) -> Steps[None]:
        """Load a model, or load it again."""
        options, call = self._caller.begin(options, model=model)
        if files and config is None:
            text = "files need a config, as Triton asks for: give the config of the model that they make"
            raise InvalidInput(text, field="config", expected="a config", got="None", **call.error_context())
        stated = json.dumps(config) if config is not None else ""
        yield from self._caller.ask(
            lambda d, _: d.load_model(model, stated, files or {}), options, call, repeatable=False
        )

    def unload_model(self, model: str, dependents: bool, options: Options | None) -> Steps[None]:
        """Unload a model."""
        options, call = self._caller.begin(options, model=model)
        yield from self._caller.ask(
            lambda d, _: d.unload_model(model, dependents=dependents), options, call, repeatable=False
        )

    def trace_settings(
        self, model: str | None, changes: Mapping[str, Sequence[str] | None] | None, options: Options | None
    ) -> Steps[dict[str, list[str]]]:
        """Change trace settings and read them all."""
        options, call = self._caller.begin(options, model=model)
        settings, _ = yield from self._caller.ask(
            lambda d, _: d.trace_settings(model or "", changes or {}), options, call, repeatable=not changes
        )
        # Over HTTP a setting with one value is that value.
        return {name: [value] if isinstance(value, str) else list(value) for name, value in settings.items()}

    def log_settings(
        self, changes: Mapping[str, bool | int | str] | None, options: Options | None
    ) -> Steps[dict[str, bool | int | str]]:
        """Change log settings and read them all."""
        options, call = self._caller.begin(options)
        settings, _ = yield from self._caller.ask(
            lambda d, _: d.log_settings(changes or {}), options, call, repeatable=not changes
        )
        return dict(settings)
