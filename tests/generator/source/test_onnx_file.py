from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest
from support import graphs

from tritonforge_generator.errors import SourceError
from tritonforge_generator.source import source_from_path
from tritonforge_generator.source.onnx_file import onnx_skeleton_from_path


def test_hashes_the_model_file(tmp_path: Path) -> None:
    path = graphs.linear(tmp_path / "m.onnx")
    source = source_from_path(path)
    assert source.file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.file.size_bytes == path.stat().st_size
    assert source.external_data == ()


def test_finds_external_data(tmp_path: Path) -> None:
    path = graphs.linear(tmp_path / "m.onnx", external=True)
    (external,) = source_from_path(path).external_data
    assert external.location == "m.onnx.data"
    assert external.sha256 == hashlib.sha256((tmp_path / "m.onnx.data").read_bytes()).hexdigest()


def test_skeleton_has_no_weights(tmp_path: Path) -> None:
    path = graphs.linear(tmp_path / "m.onnx")
    assert len(onnx.load(str(path)).graph.initializer[0].raw_data) == 48
    skeleton = onnx_skeleton_from_path(path)
    assert [len(one.raw_data) for one in skeleton.graph.initializer] == [0, 0]
    assert [list(one.dims) for one in skeleton.graph.initializer] == [[4, 3], [3]]


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", "is no ONNX model"), (b"this is text, not a model", "truncated or of another format")],
)
def test_refuses_what_is_no_onnx(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=text):
        source_from_path(path)


def test_refuses_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        source_from_path(tmp_path / "absent.onnx")
    with pytest.raises(SourceError, match="a directory"):
        source_from_path(tmp_path)


def test_refuses_every_truncation(tmp_path: Path) -> None:
    """Cut anywhere, the file is refused here or by ONNX Runtime in the next stage; never accepted."""
    from tritonforge_generator.errors import GraphError
    from tritonforge_generator.graph import graph_from_source

    content = graphs.linear(tmp_path / "m.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises((SourceError, GraphError)):
            graph_from_source(source_from_path(path))


def test_refuses_missing_external_data(tmp_path: Path) -> None:
    path = graphs.linear(tmp_path / "m.onnx", external=True)
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(SourceError, match=r"m\.onnx\.data, got no such file\. Copy it beside the model"):
        source_from_path(path)


def test_refuses_truncated_external_data(tmp_path: Path) -> None:
    path = graphs.linear(tmp_path / "m.onnx", external=True)
    data = tmp_path / "m.onnx.data"
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(SourceError, match="truncated: expected at least"):
        source_from_path(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", ""])
def test_refuses_external_data_elsewhere(tmp_path: Path, location: str) -> None:
    path = graphs.linear(tmp_path / "m.onnx", external=True)
    model = onnx.load(str(path), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match="outside its folder"):
        source_from_path(path)
