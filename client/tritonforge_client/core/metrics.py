"""Triton's metrics page: where it is, how it is asked for and what it says.

Source: Prometheus' text format 0.0.4, https://prometheus.io/docs/instrumenting/exposition_formats/. Names stay as the
server writes them (``prometheus_client`` reads counters under other names, with ``_total`` added).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias, cast, get_args
from urllib.parse import urlsplit

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import Exchange, HttpRequest, HttpResponse
from tritonforge_client.core.http_codec import error_text_from_body
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.errors import ConnectionFailed, InvalidInput, ServerError

MetricKind: TypeAlias = Literal["counter", "gauge", "histogram", "summary", "untyped"]

_DEFAULT_PORT: Final = 8002
_DEFAULT_PATH: Final = "/metrics"
_EXPECTED_URL: Final = "http://host:port/metrics"

# Patterns are compiled when the first page is read.
_NAME: Final = r"[A-Za-z_:][A-Za-z0-9_:]*"
# Triton writes Nan, other servers NaN.
_NUMBER: Final = r"[+-]?(?:(?i:nan|inf)|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
_QUOTED: Final = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_DECLARATION: Final = r"#[ \t]*(HELP|TYPE)[ \t]+([^ \t]+)(?:[ \t]+(.*))?"
_SAMPLE: Final = (
    rf"({_NAME})(?:[ \t]*\{{([^\"}}]*(?:{_QUOTED}[^\"}}]*)*)\}}[ \t]*|[ \t]+)({_NUMBER})(?:[ \t]+-?[0-9]+)?"
)
_LABEL: Final = r'([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"([^"\\]*(?:\\[\\"n][^"\\]*)*)"[ \t]*(?:,[ \t]*|\Z)'
# What the names of samples have after that of their family.
_ENDINGS: Final = ("_bucket", "_sum", "_count")
_KINDS_WITH_ENDINGS: Final = frozenset({"histogram", "summary"})
_ESCAPE: Final = r'\\[\\"n]'
_HELP_ESCAPE: Final = r"\\[\\n]"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFamily:
    """What a server says of the samples of one name.

    Attributes:
        kind: ``counter``, ``gauge``, ``histogram``, ``summary`` or ``untyped``. Samples of a histogram have the
            family's name with ``_bucket``, ``_sum`` or ``_count`` added, as have sums and counts of a summary.
        help: What is measured, and its unit.
    """

    kind: MetricKind = "untyped"
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSample:
    """One number.

    Attributes:
        name: Metric name, for example ``nv_inference_request_success``.
        labels: Label values by name, for example ``{"model": "digits", "version": "1"}``.
        value: The number; a summary over no requests has NaN.
    """

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a server's metrics page said at one moment.

    Attributes:
        samples: All numbers, in the order of the page.
        families: Kinds and help texts by metric name.
    """

    samples: tuple[MetricSample, ...]
    families: Mapping[str, MetricFamily]

    def value(self, name: str, /, **labels: str) -> float:
        """Add up the samples of one name.

        Args:
            name: Metric name, for example ``nv_inference_request_success``.
            labels: Only samples with these values, for example ``model="digits"``; without labels all count.

        Returns:
            The sum; 0 where no sample has these values.

        Raises:
            KeyError: The server has no such metric, or none of its samples has such a label.
        """
        found = [sample for sample in self.samples if sample.name == name]
        if len(found) == 0:
            raise KeyError(_missing_text("sample of", name, {sample.name for sample in self.samples}))
        known = {label for sample in found for label in sample.labels}
        for label in labels:
            if label not in known:
                raise KeyError(_missing_text(f"sample of {name} with label", label, known))
        return sum((sample.value for sample in found if labels.items() <= sample.labels.items()), 0.0)


def metrics_address(url: str | None, endpoint: str) -> tuple[str, int, str]:
    """Return where the metrics page of a server is.

    Args:
        url: Its address, over plain HTTP, as Triton serves it; port and path may be left out for Triton's own, 8002 and
            ``/metrics``. ``None`` stands for these on the host of the endpoint.
        endpoint: ``host:port`` of the client's target; several have commas between them.

    Returns:
        Host, port, and path with its query.

    Raises:
        InvalidInput: The URL has another form, or there is none for a client without exactly one ``host:port``.
    """
    host = endpoint.rpartition(":")[0] if "," not in endpoint else ""
    try:
        parts = urlsplit(url if url is not None else f"http://{host}")
        name, port = parts.hostname, parts.port
    except (AttributeError, TypeError, ValueError) as error:
        raise _url_error(url, endpoint) from error
    if parts.scheme != "http" or not name or parts.username is not None or parts.fragment or port == 0:
        raise _url_error(url, endpoint)
    path = parts.path if parts.path not in {"", "/"} else _DEFAULT_PATH
    query = f"?{parts.query}" if parts.query else ""
    return name, port if port is not None else _DEFAULT_PORT, f"{path}{query}"


def metrics_exchange(path: str, families: Sequence[str]) -> Exchange[Metrics]:
    """Ask for a metrics page.

    Args:
        path: Its path and query.
        families: What is read of it, as for ``metrics_from_text``.

    Raises:
        InvalidInput: A family has another form.
    """
    headers = {"accept": "text/plain; version=0.0.4"}
    wanted = _Families.of(families)
    return Exchange(
        HttpRequest(method="GET", path=path, headers=headers), lambda reply, call: _metrics(reply, wanted, call)
    )


def no_page_error(error: ConnectionFailed, call: Call) -> ConnectionFailed:
    """The error of a server whose metrics page cannot be reached."""
    text = f"{error.text}, with metrics on (--allow-metrics) and at this port (--metrics-port); else name their url"
    return ConnectionFailed(text, **call.error_context())


def metrics_from_text(text: str, families: Sequence[str] = ()) -> Metrics:
    """Parse a page.

    Args:
        text: Prometheus' text format 0.0.4. Timestamps are left out, since Triton writes none.
        families: Names of the families that are read, or their beginnings with a ``*`` after them; none means all.
            Samples of others are not looked at, beyond the first line, which tells whether it is such a page.

    Raises:
        InvalidInput: A family has another form.
        ReplyFormatError: The text has another form.
    """
    return _metrics_of(text, _Families.of(families))


@dataclass(frozen=True, slots=True)
class _Families:
    """Which families are read.

    Attributes:
        names: By their whole names.
        beginnings: By the beginnings of their names.
    """

    names: frozenset[str]
    beginnings: tuple[str, ...]

    @classmethod
    def of(cls, families: Sequence[str]) -> _Families | None:
        """What is asked for; ``None`` for everything."""
        if isinstance(families, str) or not all(map(_is_family, families)):
            raise _families_error(families)
        if len(families) == 0:
            return None
        names = frozenset(one for one in families if not one.endswith("*"))
        return cls(names, tuple(one[:-1] for one in families if one.endswith("*")))

    def has(self, name: str) -> bool:
        """Whether a family is one of them."""
        return name in self.names or name.startswith(self.beginnings)

    def has_sample(self, name: str, families: Mapping[str, MetricFamily]) -> bool:
        """Whether a sample is of one of them, by all families that the page has declared."""
        if self.has(name):
            return True
        for ending in _ENDINGS:
            family = families.get(name.removesuffix(ending)) if name.endswith(ending) else None
            if family is not None and family.kind in _KINDS_WITH_ENDINGS:
                return self.has(name.removesuffix(ending))
        return False


def _metrics_of(text: str, wanted: _Families | None) -> Metrics:
    families: dict[str, MetricFamily] = {}
    samples: list[MetricSample] = []
    # A line that begins with none of these is passed over; declarations say what samples belong to.
    beginnings = ("#", " ", "\t", *wanted.names, *wanted.beginnings) if wanted is not None else ("",)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.startswith(beginnings) and (samples or families):
            continue
        stripped = line.strip(" \t")
        try:
            if stripped.startswith("#"):
                _add_declaration(families, stripped)
            elif stripped:
                samples.append(_sample(stripped))
        except ValueError as error:
            raise ReplyFormatError(f"line {number}: expected {error}, got {stripped[:60]!r}") from error
    if wanted is not None:
        samples = [sample for sample in samples if wanted.has_sample(sample.name, families)]
        families = {name: family for name, family in families.items() if wanted.has(name)}
    return Metrics(samples=tuple(samples), families=families)


def _metrics(reply: HttpResponse, wanted: _Families | None, call: Call) -> Metrics:
    if reply.status != 200:
        said = error_text_from_body(reply.body)
        text = f'expected a metrics page, got status {reply.status}: "{said}"; check the url, port and path'
        raise ServerError(text, **call.error_context(said))
    try:
        return _metrics_of(bytes(reply.body).decode(), wanted)
    except ValueError as error:
        text = f"expected metrics in Prometheus' text format, got a page that cannot be read: {error}"
        raise ServerError(text, **call.error_context()) from error


def _add_declaration(families: dict[str, MetricFamily], line: str) -> None:
    """Note the kind or the help of a family; other comments say nothing."""
    match = re.fullmatch(_DECLARATION, line)
    if match is None:
        return
    what, name, rest = match[1], match[2], match[3] or ""
    if re.fullmatch(_NAME, name) is None:
        raise ValueError(f"a metric name after {what}")
    family = families.get(name, MetricFamily())
    if what == "HELP":
        families[name] = dataclasses.replace(family, help=re.sub(_HELP_ESCAPE, _unescaped, rest))
    elif rest in get_args(MetricKind):
        families[name] = dataclasses.replace(family, kind=cast("MetricKind", rest))
    else:
        raise ValueError(f"one of {', '.join(get_args(MetricKind))} after TYPE and a name")


def _sample(line: str) -> MetricSample:
    match = re.fullmatch(_SAMPLE, line)
    if match is None:
        raise ValueError('a sample name{label="value"} number')
    return MetricSample(name=match[1], labels=_labels((match[2] or "").strip(" \t")), value=float(match[3]))


def _labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    label = re.compile(_LABEL)
    position = 0
    while position < len(text):
        match = label.match(text, position)
        if match is None or match[1] in labels:
            raise ValueError('labels name="value", each name once')
        labels[match[1]] = re.sub(_ESCAPE, _unescaped, match[2]) if "\\" in match[2] else match[2]
        position = match.end()
    return labels


def _unescaped(match: re.Match[str]) -> str:
    character = match[0][1]
    return "\n" if character == "n" else character


def _missing_text(what: str, name: str, known: set[str]) -> str:
    close = get_close_matches(name, sorted(known))
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(sorted(known)) or 'none'}"
    return f"no {what} {name}; {hint}"


def _url_error(url: object, endpoint: str) -> InvalidInput:
    expected = _EXPECTED_URL
    got = repr(url) if url is not None else f"none for a client of {endpoint}"
    text = f"url: expected {expected}, got {got}"
    return InvalidInput(text, field="url", expected=expected, got=got)


def _is_family(family: object) -> bool:
    return isinstance(family, str) and re.fullmatch(rf"{_NAME}\*?", family) is not None


def _families_error(families: object) -> InvalidInput:
    expected, got = "a list of metric names, or of their beginnings with * after them", repr(families)
    return InvalidInput(f"families: expected {expected}, got {got}", field="families", expected=expected, got=got)
