"""docs/load-testing.md names every key, metric, arrival and exit code, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pydantic
import pytest
import yaml

from tritonforge_generator.declared import declared_from_mapping, value_from_text
from tritonforge_load.campaign import (
    Campaign,
    Check,
    ClosedPhase,
    CurvePhase,
    GammaPhase,
    Gate,
    InputSource,
    Observe,
    Outputs,
    RatePhase,
    Search,
    SearchPhase,
    Target,
    TracePhase,
    Transport,
    Validity,
    Workload,
)
from tritonforge_load.campaign.assertion import METRICS
from tritonforge_load.measure.results import EXIT_CODES

PAGE = (Path(__file__).parents[2] / "docs" / "load-testing.md").read_text()
CAMPAIGNS = Path(__file__).parents[2] / "load_tests" / "campaigns"

SECTIONS: dict[str, tuple[type[pydantic.BaseModel], ...]] = {
    "## The campaign file": (Campaign,),
    "### `target`": (Target,),
    "### `workload`": (Workload,),
    "### `inputs`": (InputSource,),
    "### `check`": (Check,),
    "### `transport`": (Transport,),
    "### `phases`": (ClosedPhase, RatePhase, GammaPhase, CurvePhase, TracePhase, SearchPhase),
    "### `search`": (Search,),
    "### `observe`": (Observe,),
    "### `validity`": (Validity,),
    "### `gates`": (Gate,),
    "### `outputs`": (Outputs,),
}


MINIMAL = {
    "## The campaign file": """{campaign: a, version: 1, target: {url: "grpc://h:1"}, workload: [{name: a, model: a}],
        phases: [{name: a, users: 1, for: 1s}]}""",
    "### `target`": "{url: 'grpc://h:1'}",
    "### `workload`": "{name: a, model: a}",
    "### `check`": "{output: y, labels: {file: y.npz}}",
    "### `transport`": "{}",
    "### `search`": "{from: 1/s, to: 2/s, step_for: 1s, until: ['p99 < 1s']}",
    "### `observe`": "{}",
    "### `validity`": "{}",
    "### `gates`": "{assert: 'p99 < 1s'}",
    "### `outputs`": "{dir: out}",
}
"""What each part must have, and no more."""

IN_WORDS = {"none", "random", "all four", "port 8002 of the same host"}
"""Defaults that the page describes."""


def rows_of(heading: str, first: str) -> list[list[str]]:
    """Cells of the table below a heading whose first column is named so."""
    section = re.split(r"^##+ ", PAGE.partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    table = section.partition(f"| {first} |")[2].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def names_in(cells: list[str]) -> list[str]:
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def keys_of(model: type[pydantic.BaseModel]) -> set[str]:
    return set(model.model_json_schema()["properties"])


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_is_documented(heading: str) -> None:
    documented = names_in([row[0] for row in rows_of(heading, "Key")])
    assert len(documented) == len(set(documented))
    assert set(documented) == set().union(*(keys_of(model) for model in SECTIONS[heading]))


def test_every_model_has_its_section() -> None:
    """A new part of the file is not forgotten."""
    definitions = {name for name in Campaign.model_json_schema()["$defs"] if name != "ArraySource"}
    assert definitions == {model.__name__ for models in SECTIONS.values() for model in models} - {"Campaign"}


@pytest.mark.parametrize("heading", MINIMAL)
def test_defaults_are_those_of_the_file(heading: str) -> None:
    """Writing the default that the page names changes nothing."""
    (model,) = SECTIONS[heading]
    least = declared_from_mapping(yaml.safe_load(MINIMAL[heading]), model, origin="least")
    compared = 0
    for cell, defaults, _ in rows_of(heading, "Key"):
        keys = names_in([cell])
        texts = defaults.replace("`", "").split(", ") if defaults != "" else []
        assert not (texts and set(keys) & set(yaml.safe_load(MINIMAL[heading]))), f"{cell} is required"
        if not texts or defaults in IN_WORDS:
            continue
        said = {
            key: value_from_text(f"'{text}'" if text == "*" else text, origin=key)
            for key, text in zip(keys, texts, strict=True)
        }
        with_defaults = {**yaml.safe_load(MINIMAL[heading]), **said}
        assert declared_from_mapping(with_defaults, model, origin=cell) == least, cell
        compared += 1
    assert compared > 0 or heading == "### `outputs`"


def test_keys_of_phases_name_their_arrivals() -> None:
    kinds: dict[str, type[pydantic.BaseModel]] = {
        "closed": ClosedPhase,
        "constant": RatePhase,
        "poisson": RatePhase,
        "gamma": GammaPhase,
        "curve": CurvePhase,
        "trace": TracePhase,
    }
    for keys, of, _ in rows_of("### `phases`", "Key"):
        (key,) = names_in([keys])
        having = {kind for kind, model in kinds.items() if key in keys_of(model)}
        expected = set(kinds) if of == "all" else {kind.strip() for kind in of.split(",") if kind != ""}
        assert having == expected, key


def test_every_arrival_is_explained() -> None:
    explained = [names_in([row[0]])[0] for row in rows_of("## Open and closed loops", "`arrival`")]
    known = [
        arrival
        for model in (ClosedPhase, RatePhase, GammaPhase, CurvePhase, TracePhase)
        for arrival in get_args(model.model_fields["arrival"].annotation)
    ]
    assert explained == [*known, "search"]


def test_every_metric_is_documented() -> None:
    documented = names_in([row[0] for row in rows_of("### `gates`", "Metric")])
    assert documented[:2] == ["p50", "p99.99"]
    assert documented[2:] == list(dict.fromkeys(documented[2:]))
    assert set(documented[2:]) == set(METRICS)


def test_every_exit_code_is_documented() -> None:
    codes = {int(row[0]) for row in rows_of("## Exit codes", "Code")}
    assert codes == {*EXIT_CODES.values(), 1, 2}


def test_every_shipped_campaign_is_listed() -> None:
    listed = names_in([row[0] for row in rows_of("## Ready-made campaigns", "Campaign")])
    assert set(listed) == {path.stem for path in CAMPAIGNS.glob("*.yaml")}


@pytest.mark.parametrize("name", ["rates", "truth"])
def test_measured_tables_have_their_place(name: str) -> None:
    assert PAGE.count(f"<!-- {name}:begin -->") == PAGE.count(f"<!-- {name}:end -->") == 1
    assert PAGE.index(f"<!-- {name}:begin -->") < PAGE.index(f"<!-- {name}:end -->")
