"""``docs/configuration.md`` tells of every key of the spec, and its examples are valid.

Its tables are written anew with: UPDATE_GOLDEN=1 pytest tests/generator/config/test_configuration_page.py
"""

from __future__ import annotations

import inspect
import os
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
from generator.config.test_from_graph import config_of
from generator.config.test_round_trip import check
from support import graphs
from support.marks import write_between_marks

from tritonforge_client.core.proto import messages, model_config_from_text
from tritonforge_generator.config import model_config_from_graph
from tritonforge_generator.declared import DeclaredModel, declared_from_mapping, value_from_text
from tritonforge_generator.python_model import declared_python, graph_of_python, reference_of_python
from tritonforge_generator.source import source_from_python
from tritonforge_generator.spec import ModelOptions

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
GRAPHS: dict[str, Callable[[Path], Path]] = {
    "linear": graphs.linear,
    "steps": graphs.steps,
    "accumulator": graphs.accumulator,
    "ragged": graphs.ragged,
}
BECOMES = {"cc_model_files": "cc_model_filenames", "labels": "output.label_filename"}
"""Keys that become fields of another name."""
MODEL = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


def examples() -> list[tuple[str, str]]:
    """The graph and the text of each example."""
    return re.findall(r"^```yaml graph=(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def files_of(folder: Path) -> None:
    """What examples name."""
    import numpy as np

    (folder / "names.txt").write_text("cat\ndog\nbird\n")
    np.save(folder / "row.npy", np.zeros(4, np.float32))
    np.save(folder / "sum.npy", np.zeros(4, np.float32))


def models_of(field: pydantic.fields.FieldInfo) -> Iterator[type[DeclaredModel]]:
    """Option classes that a field may hold, whatever is around them."""
    waiting: list[Any] = [field.annotation]
    while waiting:
        kind = waiting.pop(0)
        if inspect.isclass(kind) and issubclass(kind, DeclaredModel):
            yield kind
        waiting += typing.get_args(kind)


def every_model() -> list[type[DeclaredModel]]:
    """Option classes in the order they are met."""
    found: list[type[DeclaredModel]] = [ModelOptions]
    for kind in found:
        found += [one for field in kind.model_fields.values() for one in models_of(field) if one not in found]
    return found


def tables() -> str:
    """Every key of every class, with the field that it becomes."""
    proto = messages().ModelConfig.DESCRIPTOR.fields_by_name
    parts = []
    for kind in dict.fromkeys(every_model()):
        first, _, _ = inspect.cleandoc(kind.__doc__ or "").partition("\n")
        is_model = kind is ModelOptions
        rows = ["| key | field | what it means |", "| --- | --- | --- |"] if is_model else ["| key | what it means |"]
        rows += [] if is_model else ["| --- | --- |"]
        for name, field in kind.model_fields.items():
            becomes = BECOMES.get(name, name if name in proto else "")
            told = (field.description or "").replace("|", r"\|")
            field_name = f" | `{becomes}`" if becomes else " |"
            rows.append(f"| `{field.alias or name}`{field_name if is_model else ''} | {told} |")
        title = "One model" if is_model else f"`{kind.__name__}`"
        parts.append(f"### {title}\n{first.replace('``', '`')}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def test_the_tables_are_those_of_the_spec(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    write_between_marks(page, "keys", tables())
    if os.environ.get("UPDATE_GOLDEN") == "1":
        PAGE.write_text(page.read_text())
    assert PAGE.read_text() == page.read_text()


def test_every_key_that_becomes_a_field_has_an_example() -> None:
    said = "\n".join(text for _, text in examples())
    proto = messages().ModelConfig.DESCRIPTOR.fields_by_name
    missing = [name for name in ModelOptions.model_fields if name in proto and name != "name"]
    assert [name for name in missing if re.search(rf"^{name}:", said, re.MULTILINE) is None] == []


@pytest.mark.parametrize(("graph", "text"), examples())
def test_examples_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: str, text: str) -> None:
    """Each becomes a configuration that the server's rules accept; a plan's is only read back, as there is no plan."""
    files_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = value_from_text(text, origin="example")
    if graph == "python":
        check_python(tmp_path, options)
        return
    source = GRAPHS[graph](tmp_path / "model.onnx")
    config = config_of(source, **options)
    if options.get("platform") == "tensorrt":
        assert model_config_from_text(config.text) == config.message
    else:
        check(config, source, tmp_path / "m")


def check_python(folder: Path, options: dict[str, Any]) -> None:
    """The same for a Python model, which is not linted here: its file is a stub."""
    (folder / "mine.py").write_text(MODEL)
    given = {"name": "m", "source": str(folder / "mine.py"), **options}
    given.pop("verify", None)  # its files are the reader's
    declared = declared_python(declared_from_mapping(given, ModelOptions, origin="example"))
    graph = graph_of_python(source_from_python(declared.source), declared)
    shapes = reference_of_python(graph, declared).sample_shapes
    config = model_config_from_graph(graph, declared, sample_shapes=shapes)
    assert model_config_from_text(config.text) == config.message
