"""The asynchronous clients have what the blocking ones have: names, parameters, defaults, words."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from tritonforge_client import AsyncClient, AsyncModel, AsyncModelSequence, Client, Model, ModelSequence

TWINS = [(Client, AsyncClient), (Model, AsyncModel), (ModelSequence, AsyncModelSequence)]


def methods(kind: type[Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")}


def plain(text: str) -> str:
    return re.sub(r"Async(?=[A-Z])", "", text)


@pytest.mark.parametrize(("blocking", "asynchronous"), TWINS)
def test_twins_have_the_same_methods(blocking: type[Any], asynchronous: type[Any]) -> None:
    assert list(methods(blocking)) == list(methods(asynchronous))


@pytest.mark.parametrize(("blocking", "asynchronous"), TWINS)
def test_twins_take_the_same_arguments_and_say_the_same(blocking: type[Any], asynchronous: type[Any]) -> None:
    for name, method in {"__init__": blocking.__init__, **methods(blocking)}.items():
        twin = getattr(asynchronous, name)
        ours, theirs = inspect.signature(method).parameters, inspect.signature(twin).parameters
        assert list(ours) == list(theirs), name
        assert [one.default for one in ours.values()] == [one.default for one in theirs.values()], name
        assert [one.kind for one in ours.values()] == [one.kind for one in theirs.values()], name
        assert plain(twin.__doc__ or "") == (method.__doc__ or ""), name


@pytest.mark.parametrize(("blocking", "asynchronous"), TWINS)
def test_what_waits_is_a_coroutine_or_an_asynchronous_iterator(blocking: type[Any], asynchronous: type[Any]) -> None:
    at_once = {"bind", "sequence", "prepare"}  # these only make an object
    for name, method in methods(asynchronous).items():
        returns = str(inspect.signature(method).return_annotation)
        waits = inspect.iscoroutinefunction(method) or returns.startswith("AsyncIterator[")
        assert waits != (name in at_once), name
