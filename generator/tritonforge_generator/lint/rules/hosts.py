"""C14, C19, G3, G4, G6, M5 to M8, W7 to W9, L16: what the declared server and machine decide.

A rule whose fact was not declared stays silent. Rules that no config can break are left out: the server fills in an
instance group (G1), its GPUs (G5) and its kind (G8) before it checks them, and a missing back-end (M4) ends in C1.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from tritonforge_generator.lint.host import Host
from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message, enum_name
from tritonforge_generator.lint.rule import Hit, rule
from tritonforge_generator.lint.rules.instance_groups import resolved_kind

_PYTHON_RUNTIME = "model.py"
_ANY_DEVICE = -1


def _host(model: Model) -> Host:
    return model.host or Host()


@rule(
    "C14",
    needs="host",
    text="ensemble scheduling not supported",
    fix="Serve it with a server that was built with ensembles, as the released containers are.",
)
def server_has_ensembles(model: Model) -> Iterator[Hit]:
    """An ensemble needs a server that was built with ``TRITON_ENABLE_ENSEMBLE``."""
    if "ensemble" in _host(model).without and model.config.HasField("ensemble_scheduling"):
        yield Hit("ensemble_scheduling")


@rule(
    "C19",
    needs="host",
    text="metrics not supported",
    fix="Remove `model_metrics`, or serve it with a server that was built with metrics.",
)
def server_has_metrics(model: Model) -> Iterator[Hit]:
    """``model_metrics`` needs a server that was built with ``TRITON_ENABLE_METRICS``."""
    if "metrics" in _host(model).without and model.config.HasField("model_metrics"):
        yield Hit("model_metrics")


def _gpu_groups(model: Model) -> Iterator[tuple[int, str, Message]]:
    if not model.is_ensemble:
        for index, group in enumerate(model.config.instance_group):
            if enum_name(group, "kind") == "KIND_GPU":
                yield index, f"instance_group[{index}]", group


@rule(
    "G3",
    needs="host",
    text="instance group {group} of model {model} has kind KIND_GPU but server does not support GPUs",
    fix="Write KIND_CPU, or serve it with a server that was built with GPUs.",
)
def server_has_gpus(model: Model) -> Iterator[Hit]:
    """KIND_GPU needs a server that was built with ``TRITON_ENABLE_GPU``."""
    if "gpu" in _host(model).without:
        for index, path, group in _gpu_groups(model):
            yield Hit(f"{path}.kind", {"group": group.name}, at=(index,))


@rule(
    "G4",
    needs="host",
    text="instance group {group} of model {model} has kind KIND_GPU but no GPUs are available",
    fix="Write KIND_CPU, or KIND_AUTO to take a GPU where there is one.",
)
def machine_has_gpus(model: Model) -> Iterator[Hit]:
    """KIND_GPU needs at least one GPU whose compute capability the server supports."""
    host = _host(model)
    if "gpu" not in host.without and host.supported_gpus == ():
        for index, path, group in _gpu_groups(model):
            if len(group.gpus) == 0:
                yield Hit(f"{path}.kind", {"group": group.name}, at=(index,))


@rule(
    "G6",
    needs="host",
    text="instance group {group} of model {model} specifies invalid or unsupported gpu id {gpu}. GPUs with at least "
    "the minimum required CUDA compute compatibility of {minimum} are: {supported}",
    fix="List GPUs that exist, or leave `gpus` out to use all of them.",
)
def listed_gpus_exist(model: Model) -> Iterator[Hit]:
    """Every id in ``gpus`` is that of a GPU whose compute capability the server supports."""
    host = _host(model)
    supported = host.supported_gpus
    if "gpu" in host.without or supported is None:
        return
    for index, path, group in _gpu_groups(model):
        # The first one that is missing ends the check of the group.
        missing = next(((number, gpu) for number, gpu in enumerate(group.gpus) if gpu not in supported), None)
        if missing is not None:
            number, gpu = missing
            values = {
                "group": group.name,
                "gpu": gpu,
                "minimum": "{}.{}00000".format(*host.minimum_capability),
                "supported": ", ".join(str(each) for each in supported),
            }
            yield Hit(f"{path}.gpus[{number}]", values, at=(index,))


def _library(backend: str) -> str:
    return f"libtriton_{backend}.so"


def _search(model: Model, version: int) -> tuple[str, str, str]:
    """Return where the server looks for a back-end's library, in its order."""
    directory = str(model.directory)
    return f"{directory}/{version}", directory, f"{_host(model).backend_directory}/{model.config.backend}"


def _brings(model: Model, version: int, library: str) -> bool:
    """Whether the model's own directories hold a library; what lies outside of them is not looked at."""
    # Relative to the model's directory, from the version's directory and from its own.
    names = (posixpath.normpath(f"{folder}/{library}") for folder in (version, "."))
    paths = (model.directory / name.lstrip("/") for name in names if not _escapes(name))
    return any(model.reaches(path) and path.is_file() for path in paths)


def _escapes(library: str) -> bool:
    return posixpath.normpath(library.lstrip("/")).split("/")[0] == ".."


def _installs(model: Model) -> bool | None:
    """Whether the host has the model's back-end; ``None`` when that is not known, or there is none to look for."""
    backends = _host(model).backends
    if backends is None or model.is_ensemble or model.config.backend == "":
        return None
    return model.config.backend in backends


@rule(
    "M5",
    needs="host",
    text="unable to find backend library for backend '{backend}', try specifying runtime on the model configuration.",
    fix="Write the name of an installed back-end ({installed}), or serve it where '{backend}' is installed.",
)
def backend_is_installed(model: Model) -> Iterator[Hit]:
    """The back-end is installed on the server, or its library lies in the model's or the version's directory."""
    library = _library(model.config.backend)
    if _installs(model) is False and model.config.runtime == "":
        for version in model.versions:
            if not _brings(model, version, library):
                installed = ", ".join(sorted(_host(model).backends or ()))
                yield Hit("backend", {"backend": model.config.backend, "installed": installed}, at=(version,))


@rule(
    "M6",
    needs="host",
    text="unable to find backend library '{library}' for model '{model}', searched: {searched}",
    fix="Leave `runtime` out: the server finds the library of an installed back-end by itself.",
)
def runtime_is_installed(model: Model) -> Iterator[Hit]:
    """The library that ``runtime`` names is in the version's, the model's or the back-end's directory.

    What lies in the directory of an installed back-end is not known, so only those that are not installed count.
    """
    runtime, host = model.config.runtime, _host(model)
    is_python = runtime == _PYTHON_RUNTIME
    for version in model.versions:
        folders: tuple[str, ...] = _search(model, version)
        if is_python:
            library, folders = _library("python"), (*folders, f"{host.backend_directory}/python")
            missing = host.backends is not None and "python" not in host.backends
        else:
            library, missing = runtime, runtime != "" and _installs(model) is False
        if missing and _installs(model) is not None and not _brings(model, version, library):
            searched = "".join(f"'{folder}' " for folder in folders)
            yield Hit("runtime", {"library": library, "searched": searched}, at=(version,))


@rule(
    "M7",
    text="backend library name '{library}' escapes backend directory '{directory}', for model '{model}', check model "
    "config runtime field",
    fix="Give the library's file name alone, or leave `runtime` out.",
)
def runtime_stays_inside(model: Model) -> Iterator[Hit]:
    """``runtime`` names a file of the directory in which the server finds it.

    A library that is nowhere is reported as missing (M6) instead; either way the model does not load.
    """
    runtime = model.config.runtime
    if model.is_ensemble or not _escapes(runtime):
        return
    for version in model.versions:
        version_directory, _, backend_directory = _search(model, version)
        beside = _brings(model, version, runtime)
        if beside or _installs(model) is not False:
            directory = version_directory if beside else backend_directory
            yield Hit("runtime", {"library": runtime, "directory": directory}, at=(version,))


@rule(
    "M8",
    needs="host",
    text="unable to find Python backend based backend library '{library}' for model '{model}', searched: '{path}'",
    fix="Leave `runtime` out, or install the back-end's model.py at {path}.",
)
def python_based_backend_is_installed(model: Model) -> Iterator[Hit]:
    """With ``runtime: "model.py"`` the back-end's own directory has a model.py; that of ``python`` has none."""
    config, host = model.config, _host(model)
    backends = host.backends or frozenset()
    if config.runtime == _PYTHON_RUNTIME and "python" in backends and _installs(model) is not None:
        for version in model.versions:
            if config.backend not in backends or config.backend == "python":
                path = f"{_search(model, version)[-1]}/{_PYTHON_RUNTIME}"
                yield Hit("runtime", {"library": _PYTHON_RUNTIME, "path": path}, at=(version,))


def _needed(group: Message, host: Host) -> Iterator[tuple[int, int, str, int]]:
    """Yield ``(index, device, resource, count)`` of an instance group, in the server's order; -1 is for global ones."""
    devices = group.gpus or [0]
    if resolved_kind(group, host) != "KIND_CPU" and len(group.gpus) == 0:
        devices = host.supported_gpus or [0]
    found = [
        (_ANY_DEVICE if getattr(resource, "global") else device, resource.name, index, resource.count)
        for index, resource in enumerate(group.rate_limiter.resources)
        for device in devices
    ]
    for device, name, index, count in sorted(found):
        yield index, device, name, count


def _limit(host: Host, name: str, device: int) -> int:
    counts = (
        resource.count
        for resource in host.resources
        if resource.name == name and (device == _ANY_DEVICE or resource.device in {None, device})
    )
    return max(counts, default=0)


@rule(
    "W8",
    needs="host",
    text='Resource count for "{resource}" is limited to {limit} which will prevent scheduling of one or more model '
    "instances, the minimum required count is {count}",
    fix="Lower `count` to {limit}, or start the server with `--rate-limit-resource={resource}:{count}`.",
)
def resources_suffice(model: Model) -> Iterator[Hit]:
    """No instance needs more of a resource than the server was given with ``--rate-limit-resource``.

    Once one resource is given, those that are not are taken to be 0.
    """
    host = _host(model)
    if not host.rate_limit or host.resources == () or model.is_ensemble:
        return
    for group_index, group in enumerate(model.config.instance_group):
        for index, device, name, count in _needed(group, host):
            limit = _limit(host, name, device)
            if limit < count:
                path = f"instance_group[{group_index}].rate_limiter.resources[{index}].count"
                yield Hit(path, {"resource": name, "limit": limit, "count": count}, at=(group_index, device, index))


@rule(
    "W7",
    needs="host",
    text='Resource "{resource}" is present as both global and device-specific resource in the model configuration.',
    fix="Write `global: true` for '{resource}' everywhere or nowhere.",
)
def resource_is_of_one_kind(model: Model) -> Iterator[Hit]:
    """A rate-limiter resource is global or one for each device, not both.

    Only a server with ``--rate-limit=execution_count`` looks at it.
    """
    if not _host(model).rate_limit or model.is_ensemble:
        return
    kinds: dict[str, bool] = {}
    for group_index, group in enumerate(model.config.instance_group):
        for index, resource in enumerate(group.rate_limiter.resources):
            is_global = bool(getattr(resource, "global"))
            if kinds.setdefault(resource.name, is_global) != is_global:
                path = f"instance_group[{group_index}].rate_limiter.resources[{index}]"
                yield Hit(path, {"resource": resource.name}, at=(group_index, index))


@rule(
    "W9",
    needs="host",
    text="unable to find '{library}' for repo agent '{agent}', searched: {directory}",
    fix="Install the agent as {directory}/{agent}/{library}, or remove it.",
)
def repository_agent_is_installed(model: Model) -> Iterator[Hit]:
    """Every agent of ``model_repository_agents`` is installed on the server."""
    host = _host(model)
    for index, agent in enumerate(model.config.model_repository_agents.agents if host.agents is not None else ()):
        if agent.name not in (host.agents or ()):
            library = f"libtritonrepoagent_{agent.name}.so"
            values = {"library": library, "agent": agent.name, "directory": host.agent_directory}
            yield Hit(f"model_repository_agents.agents[{index}].name", values, at=(index,))


@rule(
    "L16",
    needs="host",
    severity="warning",
    text="`response_cache` has no effect: the server is started without `--cache-config`",
    fix="Start the server with, for example, `--cache-config local,size=1048576`, or remove `response_cache`.",
)
def response_cache_is_configured(model: Model) -> Iterator[Hit]:
    """Responses are cached only when the server has a cache as well."""
    if model.config.response_cache.enable and not _host(model).has_cache:
        yield Hit("response_cache.enable")
