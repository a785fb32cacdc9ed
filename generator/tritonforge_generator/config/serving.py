"""Fields about what the server does around a model: versions, cache, metrics, agents."""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge_generator.config.fields import Field, map_entry, message, text_entries
from tritonforge_generator.spec import EnsembleOptions, ModelOptions


def version_policy_field(options: ModelOptions | EnsembleOptions) -> Field:
    """``version_policy``: which of the version folders are served."""
    policy = options.version_policy
    if policy.latest is not None:
        count = policy.latest.num_versions
        reason = "only the newest version" if count == 1 else f"the {count} newest versions"
        return message("version_policy", message("latest", Field("num_versions", count, reason)))
    if policy.specific is not None:
        versions = list(policy.specific.versions)
        return message("version_policy", message("specific", Field("versions", versions, "only these versions")))
    return message("version_policy", message("all", reason="every version folder"))


def response_cache_field(options: ModelOptions | EnsembleOptions) -> Field | None:
    """``response_cache``, where declared."""
    if options.response_cache is None:
        return None
    enable = options.response_cache.enable
    reason = (
        "equal requests are answered from memory; the server needs --cache-config"
        if enable
        else "every request is computed"
    )
    return message("response_cache", Field("enable", enable, reason))


def parameter_fields(options: ModelOptions | EnsembleOptions) -> Iterator[Field]:
    """``parameters``: settings of the backend."""
    for key, value in sorted(options.parameters.items()):
        yield map_entry("parameters", key, Field("string_value", value, "as declared"))


def transaction_policy_field(options: ModelOptions) -> Field | None:
    """``model_transaction_policy``, where declared."""
    if options.model_transaction_policy is None:
        return None
    decoupled = options.decoupled
    reason = "a request gets any number of replies, over a stream" if decoupled else "a reply for each request"
    return message("model_transaction_policy", Field("decoupled", decoupled, reason))


def metric_fields(options: ModelOptions | EnsembleOptions) -> Iterator[Field]:
    """``metric_tags`` and ``model_metrics``, where declared."""
    yield from text_entries("metric_tags", options.metric_tags or {})
    if options.model_metrics is None:
        return
    controls = (
        message(
            "metric_control",
            message("metric_identifier", Field("family", control.metric_identifier.family, "the metric")),
            message(
                "histogram_options",
                Field("buckets", list(control.histogram_options.buckets), "upper bounds, as declared"),
            ),
        )
        for control in options.model_metrics.metric_control
    )
    yield message("model_metrics", *controls)


def agents_field(options: ModelOptions) -> Field | None:
    """``model_repository_agents``, where declared."""
    if options.model_repository_agents is None:
        return None
    agents = (
        message(
            "agents", Field("name", agent.name, "asked before loading"), *text_entries("parameters", agent.parameters)
        )
        for agent in options.model_repository_agents.agents
    )
    return message("model_repository_agents", *agents)
