import pickle
import re
from typing import get_args

import pytest

from tritonforge_client import errors
from tritonforge_client.errors import Drift, InvalidInput, QueueFull, SpecDrift, TritonError


def all_classes(base: type[TritonError] = TritonError) -> list[type[TritonError]]:
    return [base, *(found for child in base.__subclasses__() for found in all_classes(child))]


@pytest.mark.parametrize("kind", all_classes(), ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling_with_all_fields(kind: type[TritonError]) -> None:
    error = kind("what went wrong", model="m", endpoint="h:1", request_id="r", elapsed_s=0.25, server_message="a\nb")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
    assert (copy.code, copy.retryable) == (kind.code, kind.retryable)


def test_own_fields_survive_pickling() -> None:
    wrong = pickle.loads(pickle.dumps(InvalidInput("t", field="x", expected="e", got="g")))
    assert (wrong.field, wrong.expected, wrong.got) == ("x", "e", "g")
    drifts = (
        Drift(field="x", expected="e", got="g"),
        Drift(field="y", expected="e", got="nothing", sentence="y is gone"),
    )
    assert pickle.loads(pickle.dumps(SpecDrift("t", drifts=drifts))).drifts == drifts


def test_a_drift_is_a_sentence() -> None:
    assert str(Drift(field="x", expected="e", got="g")) == "x: expected e, got g"
    assert str(Drift(field="", expected="e", got="g")) == "expected e, got g"
    assert str(Drift(field="x", expected="e", got="nothing", sentence="x is gone")) == "x is gone"


def test_text_is_one_line_and_names_the_call() -> None:
    error = QueueFull("first\n\n  second", model="m", endpoint="h:1", request_id="5f3a", elapsed_s=0.25)
    assert str(error) == "m on h:1: first second (request 5f3a, after 0.250 s)"
    assert str(TritonError("alone")) == "alone"


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(kind.__name__ for kind in all_classes()[1:])


def test_codes_are_told_apart() -> None:
    own = [kind.__dict__["code"] for kind in all_classes() if "code" in kind.__dict__]
    assert len(own) == len(set(own))
    assert sorted(own) == sorted(get_args(errors.Code))


def test_errors_are_exported() -> None:
    import tritonforge_client

    for kind in all_classes():
        assert getattr(tritonforge_client, kind.__name__) is kind
    exported = tritonforge_client.__all__
    assert len(set(exported)) == len(exported)
