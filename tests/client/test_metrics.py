"""The metrics page: what it says, where it is, and what happens when it is not there."""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tritonforge_client import (
    Client,
    InvalidInput,
    MetricFamily,
    MetricSample,
)
from tritonforge_client.core.metrics import metrics_address, metrics_from_text
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.testing import FakeTransport

PAGE = r"""
# HELP nv_inference_request_success Number of successful requests, \\ all\nbatch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="digits",version="1"} 3
nv_inference_request_success{model="digits",version="2"} 4
nv_inference_request_success{model="resnet", version="1",} 10 1395066363000
# a comment, and an empty line

# TYPE nv_inference_queue_summary_us summary
nv_inference_queue_summary_us{quantile="0.5"} Nan
nv_inference_queue_summary_us_sum 1.7e+3
#	HELP	latency	In seconds
latency_bucket { le = "+Inf" }	5
odd{path="C:\\DIR\"\n",brace="} 1"}-Inf
plain +Inf
small .5e-1 -7
"""


def sample(name: str, value: float, **labels: str) -> MetricSample:
    return MetricSample(name=name, labels=labels, value=value)


def test_a_page_is_read_with_every_form_that_the_format_has() -> None:
    metrics = metrics_from_text(PAGE)
    assert metrics.families == {
        "nv_inference_request_success": MetricFamily(
            kind="counter", help="Number of successful requests, \\ all\nbatch sizes"
        ),
        "nv_inference_queue_summary_us": MetricFamily(kind="summary", help=""),
        "latency": MetricFamily(kind="untyped", help="In seconds"),
    }
    samples = list(metrics.samples)
    unanswered = samples.pop(3)
    assert math.isnan(unanswered.value)
    assert unanswered.labels == {"quantile": "0.5"}
    assert samples == [
        sample("nv_inference_request_success", 3, model="digits", version="1"),
        sample("nv_inference_request_success", 4, model="digits", version="2"),
        sample("nv_inference_request_success", 10, model="resnet", version="1"),
        sample("nv_inference_queue_summary_us_sum", 1700),
        sample("latency_bucket", 5, le="+Inf"),
        sample("odd", -math.inf, path='C:\\DIR"\n', brace="} 1"),
        sample("plain", math.inf),
        sample("small", 0.05),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "<html>",
        "name",
        "name1",
        "name ",
        "1name 1",
        "na-me 1",
        "name 1_000",
        "name 0x10",
        "name one",
        "name 1 2 3",
        "name 1 2.5",
        "name 1\r",
        'name{a="b" 1',
        'name{a="b"',
        'name{a="b"}',
        "name{a=b} 1",
        'name{a="b",,} 1',
        'name{,a="b"} 1',
        'name{a="b" c="d"} 1',
        'name{a="b",a="c"} 1',
        'name{a:b="c"} 1',
        r'name{a="\t"} 1',
        r'name{a="b\"} 1',
        "# TYPE name",
        "# TYPE name number",
        "# TYPE na-me gauge",
        "# HELP na-me text",
    ],
)
def test_a_line_of_another_form_is_refused_and_named(line: str) -> None:
    with pytest.raises(ReplyFormatError, match=r"^line 2: expected .*, got '"):
        metrics_from_text(f"before 1\n{line}\nafter 1\n")


@pytest.mark.parametrize("page", ["", "\n", "# nothing but this", " \t\n", "# TYPE", "# HELPER name", "#TYPES name"])
def test_a_page_may_say_nothing(page: str) -> None:
    metrics = metrics_from_text(page)
    assert (metrics.samples, metrics.families) == ((), {})


def test_values_are_added_up_by_labels() -> None:
    metrics = metrics_from_text(PAGE)
    assert metrics.value("nv_inference_request_success") == 17
    assert metrics.value("nv_inference_request_success", model="digits") == 7
    assert metrics.value("nv_inference_request_success", model="digits", version="2") == 4
    assert metrics.value("nv_inference_request_success", model="nosuch") == 0
    assert metrics.value("plain") == math.inf
    named = metrics_from_text('x{name="a",self="b"} 1\nx{name="c"} 2\n')
    assert named.value("x", name="a", self="b") == 1


@pytest.mark.parametrize(
    ("name", "labels", "text"),
    [
        (
            "nv_inference_requests_success",
            {},
            "no sample of nv_inference_requests_success; did you mean nv_inference_request_success",
        ),
        ("latency", {}, "did you mean latency_bucket"),
        ("nothing_like_it", {}, "there are latency_bucket, nv_inference_queue_summary_us,"),
        ("nv_inference_request_success", {"modle": "digits"}, "with label modle; did you mean model?"),
        ("plain", {"model": "digits"}, "no sample of plain with label model; there are none"),
    ],
)
def test_an_unknown_name_is_told_from_a_zero(name: str, labels: dict[str, str], text: str) -> None:
    with pytest.raises(KeyError) as caught:
        metrics_from_text(PAGE).value(name, **labels)
    assert text in caught.value.args[0]


HISTOGRAM = """
# HELP first_count Not the count of a histogram
# TYPE first_count counter
first_count 1
# TYPE first counter
first 2
# TYPE second histogram
second_bucket{le="1"} 3
second_sum 4
second_count 5
second_counted 6
  second_bucket{le="+Inf"} 7
third 8
"""


@pytest.mark.parametrize(
    ("families", "samples", "declared"),
    [
        ([], [1, 2, 3, 4, 5, 6, 7, 8], ["first", "first_count", "second"]),
        (["first"], [2], ["first"]),
        (["first_count", "third"], [1, 8], ["first_count"]),
        (["second"], [3, 4, 5, 7], ["second"]),
        (["second_sum"], [4], []),
        (["second*"], [3, 4, 5, 6, 7], ["second"]),
        (["fir*", "second_count"], [1, 2, 5], ["first", "first_count"]),
        (["fourth", "sec"], [], []),
    ],
    ids=str,
)
def test_only_what_is_asked_for_is_read(families: list[str], samples: list[float], declared: list[str]) -> None:
    metrics = metrics_from_text(HISTOGRAM, families)
    assert [one.value for one in metrics.samples] == samples
    assert sorted(metrics.families) == declared
    whole = metrics_from_text(HISTOGRAM)
    assert {name: whole.families[name] for name in declared} == metrics.families


@given(st.lists(st.sampled_from(["nv_inference_request_success", "nv_inference_*", "odd", "plain", "s*"]), min_size=1))
def test_what_is_asked_for_is_read_as_on_the_whole_page(families: list[str]) -> None:
    def is_asked_for(name: str) -> bool:
        return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in families)

    whole, part = metrics_from_text(PAGE), metrics_from_text(PAGE, families)
    assert [str(one) for one in part.samples] == [str(one) for one in whole.samples if is_asked_for(one.name)]
    assert part.families == {name: family for name, family in whole.families.items() if is_asked_for(name)}


def test_what_is_not_asked_for_is_not_looked_at_but_for_the_first_line() -> None:
    assert metrics_from_text("m 1\n<html>\nn 2", ["n"]).value("n") == 2
    with pytest.raises(ReplyFormatError, match="line 2"):
        metrics_from_text("\n<html>\nn 2", ["n"])
    with pytest.raises(ReplyFormatError, match="line 2"):
        metrics_from_text("m 1\nn x", ["n"])


@pytest.mark.parametrize("families", ["nv_gpu_*", ["*"], ["nv gpu"], ["nv*_gpu"], [7], [""]], ids=str)
def test_families_of_another_form_are_refused_before_anything_is_sent(families: Any) -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(InvalidInput, match="families: expected") as caught:
        client.metrics(families=families)
    assert caught.value.field == "families"


def test_a_few_families_of_a_large_page_cost_little() -> None:
    names = [f"nv_inference_{number}" for number in range(12)]
    lines = [f'{name}{{model="model_{model}",version="1"}} {model}' for name in names for model in range(200)]
    page = "\n".join(lines)

    def cost_s(families: list[str]) -> float:
        begin_s = time.process_time()
        assert len(metrics_from_text(page, families).samples) == (200 if families else 2400)
        return time.process_time() - begin_s

    costs_s = [(cost_s([names[3]]), cost_s([])) for _ in range(5)]
    assert min(part for part, _ in costs_s) < min(whole for _, whole in costs_s) / 4


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@given(
    labels=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True), st.text(), max_size=3),
    value=st.floats(),
    timestamp=st.none() | st.integers(-(1 << 60), 1 << 60),
)
@example(labels={"a": '\\"', "b": "\\n\n\r\x1c\u2028", "c": '}{,= "'}, value=-0.0, timestamp=0)
def test_any_label_value_is_read_back_as_prometheus_reads_it(
    labels: dict[str, str], value: float, timestamp: int | None
) -> None:
    stated = ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items())
    line = f"m{{{stated}}} {value}" + ("" if timestamp is None else f" {timestamp}")
    (ours,) = metrics_from_text(f"# TYPE m gauge\n{line}\n").samples
    (family,) = text_string_to_metric_families(f"# TYPE m gauge\n{line}\n")
    (theirs,) = family.samples
    assert ours.labels == theirs.labels == labels
    assert ours.name == theirs.name == "m"
    assert repr(ours.value) == repr(float(theirs.value)) == repr(value)


@given(st.text())
@example('m{a="' + "\\" * 10_000)
@example("m{" + '"' * 10_000)
@example("m" * 10_000 + "{" * 10_000)
def test_any_text_is_a_page_or_refused(text: str) -> None:
    with suppress(ReplyFormatError):
        metrics_from_text(text)


# ---- where it is ----


@pytest.mark.parametrize(
    ("url", "endpoint", "expected"),
    [
        (None, "triton:8001", ("triton", 8002, "/metrics")),
        (None, "[::1]:8000", ("::1", 8002, "/metrics")),
        ("http://other:9000/metrics", "triton:8001", ("other", 9000, "/metrics")),
        ("http://other", "fake", ("other", 8002, "/metrics")),
        ("http://[::1]:9000/", "fake", ("::1", 9000, "/metrics")),
        ("http://gateway/triton/metrics?pod=1", "fake", ("gateway", 8002, "/triton/metrics?pod=1")),
    ],
)
def test_the_address_is_the_url_or_tritons_own(url: str | None, endpoint: str, expected: tuple[str, int, str]) -> None:
    assert metrics_address(url, endpoint) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "other:9000",
        "https://other/metrics",
        "grpc://other:8001",
        "http://",
        "http://u:p@other",
        "http://other#x",
        "http://other:0",
        "http://other:65536",
        "http://other:x",
        "http://[::1",
        8002,
    ],
)
def test_a_url_of_another_form_is_refused(url: Any) -> None:
    with pytest.raises(InvalidInput, match="url: expected http://host:port/metrics, got ") as caught:
        metrics_address(url, "triton:8001")
    assert (caught.value.field, caught.value.got) == ("url", repr(url))


@pytest.mark.parametrize("target", [["http://a:1", "http://b:2"], ["grpc://[::1]:1", "grpc://[::2]:1"]])
def test_a_client_of_several_servers_needs_a_url(target: list[str]) -> None:
    names = re.escape(", ".join(one.partition("//")[2] for one in target))
    with Client(target) as client, pytest.raises(InvalidInput, match=f"got none for a client of {names}$"):
        client.metrics()


def test_a_fake_has_no_metrics_page() -> None:
    with Client("fake", transport=FakeTransport()) as client, pytest.raises(InvalidInput, match=r"a client of fake$"):
        client.metrics()
