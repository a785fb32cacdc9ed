from __future__ import annotations

import json
import math
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonforge_generator.declared import (
    DeclaredModel,
    PlacedError,
    declared_from_mapping,
    json_schema,
    read_declared,
)
from tritonforge_generator.errors import SpecError


class Kind(Enum):
    CPU = "KIND_CPU"
    GPU = "KIND_GPU"


class Instance(DeclaredModel):
    count: int = pydantic.Field(default=1, ge=1)
    kind: Kind = Kind.CPU


class Batching(DeclaredModel):
    preferred: tuple[int, ...] = ()
    enabled: bool = True
    max_delay_ms: float = 0.0


class Model(DeclaredModel):
    name: str
    source: Path | None = None
    batching: Batching = Batching()
    instances: tuple[Instance, ...] = ()
    platform: Literal["auto", "onnxruntime", "tensorrt"] = "auto"
    threshold: int | str = 0
    warmup: str | Batching = ""


class Spec(DeclaredModel):
    models: list[Model]
    parameters: dict[str, str] = pydantic.Field(default_factory=dict)
    model_repository: Path = pydantic.Field(default=Path("model_repository"), alias="repository")

    @pydantic.model_validator(mode="after")
    def _names_are_unique(self) -> Spec:
        names = [model.name for model in self.models]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise PlacedError("two models of one name", at=("models", index, "name"), got=repr(name))
        return self

    @pydantic.field_validator("parameters")
    @classmethod
    def _no_empty_parameter(cls, value: dict[str, str]) -> dict[str, str]:
        if "" in value.values():
            raise ValueError("a parameter may not be empty")
        return value


class Anything(DeclaredModel):
    value: Any


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path: Path, text: str, model: type[pydantic.BaseModel] = Spec, **options: Any) -> str:
    with pytest.raises(SpecError) as caught:
        read_declared(write(tmp_path, text), model, **options)
    return str(caught.value).replace(str(tmp_path), "")


def value_of(tmp_path: Path, text: str) -> Any:
    return read_declared(write(tmp_path, f"value: {text}\n"), Anything).value


FULL = """\
# comment
models:
  - name: digits
    source: digits.onnx
    batching: {preferred: [4, 8], enabled: false, max_delay_ms: 1}
    instances:
      - {count: 2, kind: KIND_GPU}
    platform: onnxruntime
parameters: {on: "yes", 1: "2"}
repository: out
"""


def test_reads_every_kind_of_value(tmp_path: Path) -> None:
    spec = read_declared(write(tmp_path, FULL), Spec)
    model = spec.models[0]
    assert model.source == Path("digits.onnx")
    assert model.batching == Batching(preferred=(4, 8), enabled=False, max_delay_ms=1.0)
    assert model.instances == (Instance(count=2, kind=Kind.GPU),)
    assert spec.parameters == {"on": "yes", "1": "2"}
    assert spec.model_repository == Path("out")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("NO", "NO"),
        ("true", True),
        ("False", False),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-3", -3),
        ("~", None),
        ("", None),
        ("null", None),
        ("'null'", "null"),
        ('"1"', "1"),
        ("!!str 1", "1"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("[a, 1, [2.5]]", ["a", 1, [2.5]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(tmp_path: Path, text: str, expected: object) -> None:
    value = value_of(tmp_path, text)
    assert value == expected
    assert type(value) is type(expected)


def test_not_a_number_is_read(tmp_path: Path) -> None:
    assert math.isnan(value_of(tmp_path, ".nan"))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff\ufffe\uffff")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc<é", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(value=JSON_VALUES)
@settings(max_examples=150, deadline=None)
def test_json_is_read_as_json(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "value.yaml"
    path.write_text(json.dumps({"value": value}), encoding="utf-8")
    assert read_declared(path, Anything).value == value


@given(text=st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,?<~ \n\t\r\0é1.", max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_or_refused_with_the_files_name(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("text") / "spec.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(SpecError, match=r"spec\.yaml"):
        read_declared(path, Spec)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "modles: []\n",
            [
                "/spec.yaml:1:1: key 'models' is missing. Add it",
                "/spec.yaml:1:1: unknown key 'modles': expected one of models, parameters, repository. Did you mean",
            ],
        ),
        (
            "models:\n- name: a\n  batching:\n    prefered: [1]\n",
            [
                "/spec.yaml:4:5: unknown key 'prefered' in models[0].batching: expected one of enabled, max_",
                "Did you mean 'preferred'?",
            ],
        ),
        (
            "models: []\nmodel_repository: x\n",
            ["/spec.yaml:2:1: unknown key 'model_repository': expected one of models, parameters, repository"],
        ),
        ("models: []\nrepositry: x\n", ["Did you mean 'repository'?"]),
        ("models:\n- nmae: a\n", ["2:3: key 'name' is missing in models[0]", "2:3: unknown key 'nmae' in models[0]"]),
        ("models:\n- name: a\n  platform: onnxruntme\n", ["3:13: models[0].platform", "Did you mean 'onnxruntime'?"]),
        ("models:\n- name: a\n  instances: [{kind: KIND_TPU}]\n", ["expected 'KIND_CPU' or 'KIND_GPU', got the text"]),
        ("models:\n- name: 3\n", ["/spec.yaml:2:9: models[0].name: expected text, got the number 3"]),
        ("models:\n- name: null\n", ["models[0].name: expected text, got nothing (null)"]),
        ("models:\n- {name: a, instances: [{count: '2'}]}\n", ["expected a whole number, got the text '2'"]),
        ("models:\n- {name: a, instances: [{count: 2.5}]}\n", ["expected a whole number, got the number 2.5"]),
        ("models:\n- {name: a, instances: [{count: true}]}\n", ["expected a whole number, got true"]),
        ("models:\n- {name: a, instances: [{count: 0}]}\n", ["greater than or equal to 1, got the number 0"]),
        ("models:\n- {name: a, batching: {enabled: on}}\n", ["expected true or false, got the text 'on'. Write true"]),
        ("models:\n- {name: a, batching: {enabled: No}}\n", ["got the text 'No'. Write false"]),
        ("models:\n- {name: a, batching: {max_delay_ms: 1ms}}\n", ["expected a number, got the text '1ms'"]),
        ("models:\n- {name: a, batching: {preferred: 4}}\n", ["expected a list, got the number 4"]),
        ("models: {a: 1}\n", ["/spec.yaml:1:9: models: expected a list, got a mapping with a"]),
        ("models: [1]\n", ["models[0]: expected a mapping (key: value), got the number 1"]),
        ("models:\n- {name: a, threshold: [1, 2]}\n", ["expected a whole number or text, got a list of 2"]),
        (
            "models:\n- {name: a, warmup: {enabld: true}}\n",
            ["2:22: unknown key 'enabld' in models[0].warmup", "'enabled'"],
        ),
        ("models: []\nparameters: {a: 1}\n", ["2:17: parameters.a: expected text, got the number 1. Put it in quotes"]),
        ("models: []\nparameters: {a: ''}\n", ["/spec.yaml:2:13: parameters: a parameter may not be empty"]),
        ("models:\n- name: a\n- name: a\n", ["/spec.yaml:3:9: models[1].name: two models of one name: got 'a'"]),
        ("models: []\nmodels: []\n", ["/spec.yaml:2:1: key 'models' is given twice, first on line 1. Remove one"]),
        ("models:\n- name: a\n  name: b\n", ["/spec.yaml:3:3: key 'name' is given twice, first on line 2"]),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", ["/spec.yaml:3:3: merge keys (<<) are not part of YAML 1.2"]),
        ("models: !!python/object:os.system []\n", ["1:9: tag !!python/object:os.system is not known here"]),
        ("models: !!int many\n", ["1:9: the value does not fit its type: expected !!int, got 'many'"]),
        ('models: "\\ud800"\n', ["1:9: the value does not fit its type: expected !!str, got '\\ud800'"]),
        ('"\\ud800": 1\n', ["1:1: key: expected text, got '\\ud800'"]),
        ("? [a]\n: 1\n", ["1:3: key: expected text, got a list or a mapping"]),
        ("models: &a [*a]\n", ["1:9: the value contains itself through an alias"]),
        ("- a\n", ["expected a mapping (key: value) at the top, got a list of 1"]),
        ("", ["expected a mapping (key: value) at the top, got an empty file"]),
        ("# only a comment\n", ["got an empty file"]),
        ("models:\n\t- a\n", ["/spec.yaml:2:1: not valid YAML", "Indent with spaces"]),
        ("models: [a\nb: 1\n", ["not valid YAML", "starts on line 1"]),
        ("models: []\n---\nmodels: []\n", ["/spec.yaml:2:1: not valid YAML: a second document starts here"]),
        ("models: [\x07]\n", ["/spec.yaml:1:10: character U+0007 is not allowed"]),
        ("models: " + "[" * 5000, ["nested too deeply: expected at most 100 levels. Flatten the file"]),
        ("models: " + "[" * 100 + "]" * 100 + "\n", ["nested too deeply: expected at most 100 levels"]),
        ("models: " + "[" * 99 + "]" * 99 + "\n", ["models[0]: expected a mapping (key: value), got a list of 1"]),
        (
            "".join(f"a{i}: &a{i} {'[' * 50}{f'*a{i - 1}' if i else ''}{']' * 50}\n" for i in range(9)),
            ["nested too deeply"],
        ),
        ("models: *none\n", ["/spec.yaml:1:9: not valid YAML: found undefined alias"]),
    ],
)
def test_refusals_say_where_and_what(tmp_path: Path, text: str, expected: list[str]) -> None:
    message = refusal(tmp_path, text)
    for part in expected:
        assert part in message


def test_union_members_do_not_repeat_an_error(tmp_path: Path) -> None:
    message = refusal(tmp_path, "models:\n- {name: a, warmup: {enabld: true}}\n")
    assert "errors" not in message
    assert "expected text" not in message


def test_all_errors_are_told_together_in_the_order_of_the_file(tmp_path: Path) -> None:
    message = refusal(
        tmp_path, "repository: 5\nmodels:\n- name: 1\n  batching: {enabled: 2}\n- {name: b, extra: 1}\nlast: 1\n"
    )
    head, *lines = message.splitlines()
    assert head == "/spec.yaml: 5 errors"
    assert [line.split(": ")[0].strip() for line in lines] == [
        "/spec.yaml:1:13", "/spec.yaml:3:9", "/spec.yaml:4:23", "/spec.yaml:5:13", "/spec.yaml:6:1",
    ]  # fmt: skip


def test_facts_are_fields_of_a_single_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_declared(write(tmp_path, "models:\n- name: 3\n"), Spec)
    assert (caught.value.expected, caught.value.got) == ("text", "the number 3")
    assert caught.value.exit_code == 2


def test_aliases_stand_for_their_value(tmp_path: Path) -> None:
    spec = read_declared(
        write(tmp_path, "models:\n- {name: a, batching: &b {preferred: [1]}}\n- {name: c, batching: *b}\n"), Spec
    )
    assert spec.models[1].batching.preferred == (1,)


def test_endless_aliases_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "aliases expand to more than" in refusal(tmp_path, "\n".join(lines))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml: cannot be read: No such file or directory"):
        read_declared(tmp_path / "none.yaml", Spec)
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_declared(tmp_path, Spec)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: é".encode("latin-1"))
    with pytest.raises(SpecError, match="expected UTF-8 text, got byte 0xe9 at offset 6"):
        read_declared(latin, Spec)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodels:\r\n- name: a\r\n")
    assert read_declared(path, Spec).models[0].name == "a"


class TestOverrides:
    def test_merge_mappings_and_replace_the_rest(self, tmp_path: Path) -> None:
        spec = read_declared(
            write(tmp_path, FULL),
            Spec,
            overrides={"parameters": {"1": "3", "new": "x"}, "models": [{"name": "b"}], "repository": tmp_path},
        )
        assert spec.parameters == {"on": "yes", "1": "3", "new": "x"}
        assert [model.name for model in spec.models] == ["b"]
        assert spec.model_repository == tmp_path

    def test_change_entries_of_lists_by_name_or_place(self, tmp_path: Path) -> None:
        text = "models:\n- {name: a, instances: [{count: 1}, {count: 2}]}\n- {name: b}\n"
        overrides = {"models": {"a": {"instances": {"1": {"count": 5}}}, "b": {"threshold": 3}}}
        a, b = read_declared(write(tmp_path, text), Spec, overrides=overrides).models
        assert [instance.count for instance in a.instances] == [1, 5]
        assert (b.name, b.threshold) == ("b", 3)

    def test_of_entries_that_are_not_there_are_refused(self, tmp_path: Path) -> None:
        text = "models: [{name: a}, {name: b}]\n"
        message = refusal(tmp_path, text, overrides={"models": {"c": {"threshold": 3}}}, overrides_origin="--set")
        assert message == "--set: models: an entry of the list: expected one of a, b, got 'c'"

    def test_errors_in_entries_have_their_place(self, tmp_path: Path) -> None:
        text = "models:\n- {name: a}\n- {name: b, warmup: 3}\n"
        message = refusal(tmp_path, text, overrides={"models": {"b": {"name": 1}}}, overrides_origin="--set")
        assert "  --set: models[1].name: expected text, got the number 1" in message
        assert "  /spec.yaml:3:21: models[1].warmup: " in message

    def test_mend_the_file(self, tmp_path: Path) -> None:
        assert read_declared(write(tmp_path, "models: 5\n"), Spec, overrides={"models": []}).models == []

    def test_errors_name_the_overrides(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "models: 5\n", overrides={"parameters": {"a": 1}}, overrides_origin="--set")
        assert "  --set: parameters.a: expected text, got the number 1" in message
        assert "  /spec.yaml:1:9: models: expected a list, got the number 5" in message


class TestMapping:
    def test_is_checked_by_the_same_rules(self) -> None:
        assert declared_from_mapping({"models": [{"name": "a", "source": Path("x")}]}, Spec, origin="flags") == Spec(
            models=[Model(name="a", source=Path("x"))]
        )
        with pytest.raises(SpecError, match=r"^--set: unknown key 'model': .* Did you mean 'models'\?"):
            declared_from_mapping({"models": [], "model": 1}, Spec, origin="--set")


def test_json_schema_is_for_editors(tmp_path: Path) -> None:
    schema = json_schema(Spec)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "Spec"
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"models", "parameters", "repository"}
    json.dumps(schema)
