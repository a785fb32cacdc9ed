"""The asynchronous client: what ``client`` has, under the same names, for one event loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray
from typing_extensions import Self

from tritonforge_client.async_model import AsyncModel
from tritonforge_client.core.caller import Caller
from tritonforge_client.core.effects import Close, Effect, Pause, Race, Resolve, Send, Steps
from tritonforge_client.core.request import Inputs
from tritonforge_client.core.session import Session
from tritonforge_client.errors import Drift
from tritonforge_client.options import Options
from tritonforge_client.policies import Balance
from tritonforge_client.prepared import Prepared, RawReply
from tritonforge_client.reply import Reply
from tritonforge_client.spec import ModelSpec
from tritonforge_client.tls import TLS
from tritonforge_client.transport.base import AsyncTransport
from tritonforge_client.transport.target import async_transports_of

if TYPE_CHECKING:
    import asyncio

    from tritonforge_client.core.administration import RepositoryModel, ServerMetadata
    from tritonforge_client.core.metrics import Metrics
    from tritonforge_client.core.statistics import ModelStatistics
    from tritonforge_client.hooks import Hook

T = TypeVar("T")


class AsyncClient:
    """Connections to a Triton server, or to several that serve the same models.

    It may be shared between the tasks of the event loop that first uses it, and with nothing else.

    ::

        async with AsyncClient("grpc://localhost:8001") as client:
            digits = client.bind(await client.spec("digits"))
            probabilities = (await digits.infer({"images": images}))["probabilities"]

    Args:
        target: ``grpc://host:port`` or ``http://host:port``, over TLS ``grpcs://`` or ``https://``; or several of one
            protocol. With ``+dns`` after the scheme, as in ``grpc+dns://host:port`` or gRPC's own ``dns:///host:port``,
            every address of the host is a target; it is asked for them at the first call, and again when one fails.
        options: Options of every call that brings none of its own.
        balance: How calls are spread over several targets.
        tls: Certificates, for targets over TLS that need other than the usual ones.
        hooks: Told of every attempt, for tracing and metrics.
        transport: Another way to the server; then ``target`` is only its name.

    Raises:
        InvalidInput: The target has another form.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        options: Options | None = None,
        balance: Balance = "round_robin",
        tls: TLS | None = None,
        hooks: Sequence[Hook] = (),
        transport: AsyncTransport | None = None,
    ) -> None:
        made, names = ([transport], {}) if transport is not None else async_transports_of(target, tls)
        options = options if options is not None else Options()
        import asyncio  # takes longer than the rest of the client, and who comes here has it already

        self._loop: asyncio.AbstractEventLoop | None = None
        self._running_loop = asyncio.get_running_loop
        self._sleep = asyncio.sleep
        self._turn = asyncio.Lock()
        caller = Caller(f"{type(self).__name__}({target!r})", made, options, balance, hooks, host_names=names)
        self._session = Session(caller)

    async def infer(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> Reply[dict[str, NDArray[Any]]]:
        """Run a model without knowing its spec: arrays are sent by their own dtypes, the server checks the rest.

        Args:
            model: Model name; the server's version policy chooses the version.
            inputs: Arrays by tensor name, in full shape, batch dimension included.
            outputs: Names of the outputs to return; none means all.
            options: Options of this call instead of the client's.
            request_id: Id that the server logs and echoes.

        Returns:
            Arrays by tensor name: read-only views of the reply, unless ``options.writable``.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return await self._run(self._session.infer(model, inputs, outputs, options, request_id))

    async def send(self, prepared: Prepared) -> RawReply:
        """Send a request that ``AsyncModel.prepare`` made, of this client or of another one of the same protocol.

        Args:
            prepared: The request.

        Returns:
            The answer, which is checked to be no error, and not read before that is asked for.

        Raises:
            InvalidInput: The request is one of another protocol.
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return await self._run(self._session.send(prepared))

    def bind(self, spec: ModelSpec, *, options: Options | None = None) -> AsyncModel:
        """Return a model whose requests are checked before they are sent. Nothing is sent now.

        Args:
            spec: What the model takes and gives.
            options: Options of its calls instead of the client's.
        """
        return AsyncModel(self._run, self._session, spec, options)

    async def spec(self, model: str, *, version: str | None = None, options: Options | None = None) -> ModelSpec:
        """Read what a model takes and gives from the server.

        Args:
            model: Model name.
            version: Version to ask for and to call; ``None`` leaves the choice to the server.
            options: Options of this call instead of the client's.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return await self._run(self._session.spec(model, version, options))

    async def config(self, model: str, *, version: str | None = None, options: Options | None = None) -> dict[str, Any]:
        """Read a model's config from the server, as it is in force: with what the server completed when it loaded it.

        Args:
            model: Model name.
            version: Version to ask for; ``None`` leaves the choice to the server.
            options: Options of this call instead of the client's.

        Returns:
            The ``ModelConfig`` as JSON with proto field names, over gRPC as over HTTP: numbers, texts and empty lists
            that were not set are there with their defaults, messages that were not set are left out. ``load_model``
            takes it, and so does ``model_spec_from_config``.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return await self._run(self._session.administration.config(model, version, options))

    async def drifts(self, spec: ModelSpec, *, options: Options | None = None) -> tuple[Drift, ...]:
        """Return how the model that the server has differs from a spec, as far as a client can notice it.

        Args:
            spec: What the model is believed to take and give.
            options: Options of this call instead of the client's.

        Returns:
            The differences; none where the spec still holds.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return await self._run(self._session.drifts(spec, options))

    async def check(self, spec: ModelSpec, *, options: Options | None = None) -> None:
        """Refuse a spec that differs from the model that the server has.

        Args:
            spec: What the model is believed to take and give.
            options: Options of this call instead of the client's.

        Raises:
            SpecDrift: There are ``drifts``; it carries them.
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        await self._run(self._session.check(spec, options))

    async def ready(self, model: str | None = None, *, timeout_s: float = 5.0) -> bool:
        """Return whether the server, or one of its models, answers requests now.

        Args:
            model: Model name; ``None`` asks about the server.
            timeout_s: Seconds to wait for the answer; none in time is a no.
        """
        return await self._run(self._session.ready(model, timeout_s))

    async def wait_ready(self, model: str | None = None, *, timeout_s: float) -> None:
        """Wait until the server, or one of its models, is ready.

        Args:
            model: Model name; ``None`` waits for the server.
            timeout_s: Seconds to wait in all.

        Raises:
            NotReady: It was not ready in time; the last failure is the cause.
        """
        await self._run(self._session.wait_ready(model, timeout_s))

    async def statistics(self, model: str | None = None, *, options: Options | None = None) -> list[ModelStatistics]:
        """Read the server's statistics, one entry a model version.

        Args:
            model: Model name; ``None`` reads all models.
            options: Options of this call instead of the client's.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return await self._run(self._session.administration.statistics(model, options))

    async def metrics(
        self, url: str | None = None, *, families: Sequence[str] = (), options: Options | None = None
    ) -> Metrics:
        """Read a server's metrics page, over HTTP whatever the protocol of the client.

        It is asked for once, past retries and hooks, and without headers and token, as it is read without TLS.

        Args:
            url: ``http://host:port/metrics``; port and path may be left out for Triton's own, 8002 and ``/metrics``.
                ``None`` stands for these on the host of the client's only target.
            families: Names of the families that are read, for example ``nv_inference_count``, or their beginnings with
                a ``*`` after them, for example ``nv_gpu_*``; none means all. The server sends the whole page, but most
                of the time goes into reading it.
            options: Options of this call instead of the client's; their ``timeout_s`` and ``compression`` count.

        Raises:
            InvalidInput: The URL or a family has another form, or there is no URL for a client of several targets.
            ConnectionFailed: The server has no metrics there: they are off, or on another port.
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        # A client over gRPC may need it for nothing else.
        from tritonforge_client.transport.http_aio import AsyncHttpTransport

        return await self._run(self._session.administration.metrics(url, families, AsyncHttpTransport, options))

    async def server_metadata(self, *, options: Options | None = None) -> ServerMetadata:
        """Read the server's name, version and protocol extensions.

        Args:
            options: Options of this call instead of the client's.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return await self._run(self._session.administration.server_metadata(options))

    async def repository_index(self, *, ready: bool = False, options: Options | None = None) -> list[RepositoryModel]:
        """List the models of the server's repositories, one entry a version.

        Args:
            ready: Only those that can be called now.
            options: Options of this call instead of the client's.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return await self._run(self._session.administration.repository_index(ready, options))

    async def load_model(
        self,
        model: str,
        *,
        config: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        options: Options | None = None,
    ) -> None:
        """Load a model, or load it again (model control mode ``explicit``). Returns when it is ready.

        Args:
            model: Model name.
            config: A config instead of the repository's, as JSON with proto field names.
            files: Contents by path below the model's folder, for example ``"1/model.onnx"``, instead of the
                repository's files; they need a ``config``.
            options: Options of this call instead of the client's.

        Raises:
            InvalidInput: Files without a config.
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        await self._run(self._session.administration.load_model(model, config, files, options))

    async def unload_model(self, model: str, *, dependents: bool = False, options: Options | None = None) -> None:
        """Unload a model (model control mode ``explicit``). Requests in flight are still answered.

        Args:
            model: Model name.
            dependents: Also those models that were loaded with it, such as the steps of an ensemble.
            options: Options of this call instead of the client's.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        await self._run(self._session.administration.unload_model(model, dependents, options))

    async def trace_settings(
        self,
        model: str | None = None,
        *,
        changes: Mapping[str, Sequence[str] | None] | None = None,
        options: Options | None = None,
    ) -> dict[str, list[str]]:
        """Change trace settings, and return them all.

        Args:
            model: Model name; ``None`` for the server's own settings.
            changes: Values by setting, for example ``{"trace_rate": ["100"]}``; ``None`` clears one.
            options: Options of this call instead of the client's.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return await self._run(self._session.administration.trace_settings(model, changes, options))

    async def log_settings(
        self, *, changes: Mapping[str, bool | int | str] | None = None, options: Options | None = None
    ) -> dict[str, bool | int | str]:
        """Change log settings, and return them all.

        Args:
            changes: Values by setting, for example ``{"log_verbose_level": 1}``.
            options: Options of this call instead of the client's.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return await self._run(self._session.administration.log_settings(changes, options))

    async def close(self) -> None:
        """Close all connections. A second call does nothing."""
        if self._session.caller.closed:
            return
        self._session.caller.closed = True
        # The parent's connections are not a child's to close.
        if not self._session.caller.is_forked:
            await self._run(self._session.closing())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return self._session.caller.owner.removesuffix(")") + (", closed)" if self._session.caller.closed else ")")

    async def _run(self, steps: Steps[T]) -> T:
        """Do what the steps ask for until they return."""
        self._stay_in_loop()
        try:
            effect = next(steps)
            while True:
                try:
                    outcome = await self._done(effect)
                except BaseException as error:  # noqa: BLE001 - the steps decide
                    effect = steps.throw(error)
                else:
                    effect = steps.send(outcome)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _done(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            return await effect.transport.send(effect.request, effect.call)
        if isinstance(effect, Race):
            from tritonforge_client.transport.race_aio import raced_async  # takes asyncio along, as above

            return await raced_async(effect)
        if isinstance(effect, Pause):
            await self._sleep(effect.pause_s)
        elif isinstance(effect, Resolve):
            return await effect.resolver.addresses(effect.timeout_s)
        elif isinstance(effect, Close):
            await effect.transport.close()
        else:
            async with self._turn:  # given on in a later round of the loop
                await self._sleep(0)
        return None

    def _stay_in_loop(self) -> None:
        """Refuse a second event loop: the connections belong to the first."""
        loop = self._running_loop()
        if self._loop is None:
            self._loop = loop
        elif loop is not self._loop:
            raise RuntimeError(f"{self!r} belongs to another event loop; make one in each loop")
