"""C14, C19, G3, G4, G6, M5 to M8, W7 to W9, L16: what the declared server and machine decide.

A rule whose fact was not declared stays silent. Rules that no config can break are left out: the server fills in an
instance group (G1), its GPUs (G5) and its kind (G8) before it checks them, and a missing back-end (M4) ends in C1.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

from tritonforge_generator.lint.host import Host, resolved_kind
from tritonforge_generator.lint.model import Model, leads_out
from tritonforge_generator.lint.proto import Message, enum_name
from tritonforge_generator.lint.rule import Hit, rule

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


def _own_paths(model: Model, version: int, library: str) -> tuple[Path, Path]:
    """Return where a library lies when the version's or the model's own directory holds it."""
    return model.directory / str(version) / library.lstrip("/"), model.directory / library.lstrip("/")


def _finds(model: Model, version: int, library: str, *others: str) -> bool | None:
    """Whether the server finds a library, in the model's own directories, the back-end's or those of other back-ends.

    ``None`` when that is not known; what leads out of the repositories is not looked at.
    """
    paths = _own_paths(model, version, library)
    if not all(model.reaches(path) for path in paths):
        return None
    if any(path.exists() for path in paths):
        return True
    known = {_host(model).backend_has(backend, library) for backend in (model.config.backend, *others)}
    return True if True in known else None if None in known else False


def _runtime(model: Model, version: int) -> str:
    """Return what the server takes for ``runtime``; empty when that is the back-end's own library."""
    backend = model.config.backend
    if model.config.runtime == "" and _host(model).backend_has(backend, _PYTHON_RUNTIME):
        return _PYTHON_RUNTIME if _finds(model, version, _library(backend)) is False else ""
    return str(model.config.runtime)


def _served_versions(model: Model) -> tuple[int, ...]:
    """Versions that a back-end is looked for: none of an ensemble, or where no back-end is named."""
    return () if model.is_ensemble or model.config.backend == "" else model.versions


@rule(
    "M5",
    needs="host",
    text="unable to find backend library for backend '{backend}', try specifying runtime on the model configuration.",
    fix="Write the name of an installed back-end ({installed}), or serve it where '{backend}' is installed.",
)
def backend_is_installed(model: Model) -> Iterator[Hit]:
    """The back-end is installed on the server, or its library lies in the model's or the version's directory."""
    host, backend = _host(model), model.config.backend
    if model.config.runtime != "" or host.backend_has(backend, _PYTHON_RUNTIME) is not False:
        return
    for version in _served_versions(model):
        if _finds(model, version, _library(backend)) is False:
            yield Hit("backend", {"backend": backend, "installed": ", ".join(sorted(host.installed))}, at=(version,))


@rule(
    "M6",
    needs="host",
    text="unable to find backend library '{library}' for model '{model}', searched: {searched}",
    fix="Leave `runtime` out: the server finds the library of an installed back-end by itself. Or serve it where "
    "{library} is installed.",
)
def runtime_is_installed(model: Model) -> Iterator[Hit]:
    """The library that ``runtime`` names is in the version's, the model's or the back-end's directory.

    What an installed back-end has is known when its files were declared. One that is made of a ``model.py`` takes the
    library of the back-end ``python``.
    """
    for version in _served_versions(model):
        library, others = _runtime(model, version), []
        if library == _PYTHON_RUNTIME:
            library, others = _library("python"), ["python"]
        if library != "" and _finds(model, version, library, *others) is False:
            folders = [*_search(model, version), *(f"{_host(model).backend_directory}/{other}" for other in others)]
            searched = "".join(f"'{folder}' " for folder in folders)
            yield Hit("runtime", {"library": library, "searched": searched}, at=(version,))


@rule(
    "M7",
    text="backend library name '{library}' escapes backend directory '{directory}', for model '{model}', check model "
    "config runtime field",
    fix="Give the library's file name alone, or leave `runtime` out.",
)
def runtime_stays_inside(model: Model) -> Iterator[Hit]:
    """``runtime`` names a file of the directory in which the server finds it, links followed.

    A library that is nowhere is missing (M6) instead; either way the model does not load.
    """
    library = model.config.runtime
    if library in {"", _PYTHON_RUNTIME}:
        return
    for version in _served_versions(model):
        folders = _search(model, version)
        paths = _own_paths(model, version, library)
        own = next((number for number, path in enumerate(paths) if model.reaches(path) and path.exists()), None)
        if own is not None:
            directory, leaves = folders[own], leads_out(paths[own], Path(folders[own]))
        else:
            directory = folders[-1]
            # The back-ends are not on this machine, so that links cannot be followed.
            leaves = not posixpath.normpath(f"{directory}/{library.lstrip('/')}").startswith(directory)
        if leaves and _finds(model, version, library) is not False:
            yield Hit("runtime", {"library": library, "directory": directory}, at=(version,))


@rule(
    "M8",
    needs="host",
    text="unable to find Python backend based backend library '{library}' for model '{model}', searched: '{path}'",
    fix="Leave `runtime` out, or install the back-end's model.py at {path}.",
)
def python_based_backend_is_installed(model: Model) -> Iterator[Hit]:
    """With ``runtime: "model.py"`` the back-end's own directory has a model.py; that of ``python`` has none."""
    config, host = model.config, _host(model)
    has_model = host.backend_has(config.backend, _PYTHON_RUNTIME)
    is_missing = has_model is False or (has_model is None and config.backend == "python" and host.backends is not None)
    if config.runtime != _PYTHON_RUNTIME or not is_missing:
        return
    for version in _served_versions(model):
        if _finds(model, version, _library("python"), "python") is not False:
            path = f"{_search(model, version)[-1]}/{_PYTHON_RUNTIME}"
            yield Hit("runtime", {"library": _PYTHON_RUNTIME, "path": path}, at=(version,))


def _registered(model: Model) -> Iterator[tuple[int, Message]]:
    """Yield ``(index, group)`` of the instance groups that the rate limiter knows; passive instances it never sees."""
    if _host(model).rate_limit and not model.is_ensemble:
        for index, group in enumerate(model.config.instance_group):
            if not group.passive:
                yield index, group


def _needed(group: Message, host: Host) -> Iterator[tuple[int, int, str, int]]:
    """Yield ``(index, device, resource, count)`` of an instance group, in the server's order; -1 is for global ones."""
    devices = group.gpus or [0]
    if resolved_kind(group, host) == "KIND_GPU" and len(group.gpus) == 0:
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
    if host.resources == ():
        return
    for group_index, group in _registered(model):
        for number, (index, device, name, count) in enumerate(_needed(group, host)):
            limit = _limit(host, name, device)
            if limit < count:
                path = f"instance_group[{group_index}].rate_limiter.resources[{index}].count"
                values = {"resource": name, "limit": limit, "count": count}
                yield Hit(path, values, at=(group_index, 0, number))


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
    kinds: dict[str, bool] = {}
    for group_index, group in _registered(model):
        for index, resource in enumerate(group.rate_limiter.resources):
            is_global = bool(getattr(resource, "global"))
            if kinds.setdefault(resource.name, is_global) != is_global:
                path = f"instance_group[{group_index}].rate_limiter.resources[{index}]"
                yield Hit(path, {"resource": resource.name}, at=(group_index, 1, index))


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
