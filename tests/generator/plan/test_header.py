from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tritonforge_generator.errors import SourceError
from tritonforge_generator.plan import plan_header_from_path

# The first 28 bytes as TensorRT 8.6.0 writes them: the tag, then the version in bytes 24 to 27.
HEADER_8_6_0 = struct.pack("<4sI", b"ftrt", 0) + bytes(16) + bytes([8, 6, 0, 12])


def test_reads_the_version(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    path.write_bytes(HEADER_8_6_0 + bytes(100))
    header = plan_header_from_path(path)
    assert (header.tensorrt_version, header.version_text, header.prefix_bytes) == ((8, 6, 0, 12), "8.6.0.12", 0)


def test_finds_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    metadata = json.dumps({"names": {"0": "cat"}}).encode()
    path.write_bytes(struct.pack("<I", len(metadata)) + metadata + HEADER_8_6_0)
    header = plan_header_from_path(path)
    assert header.version_text == "8.6.0.12"
    assert header.prefix_bytes == 4 + len(metadata)


@pytest.mark.parametrize("content", [b"", b"ftrt", b"\x08\x0aonnx" * 10, struct.pack("<I", 5) + b"{" + bytes(40)])
def test_refuses_what_is_no_plan(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.plan"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="is no TensorRT plan: expected a file that begins with b'ftrt'"):
        plan_header_from_path(path)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        plan_header_from_path(tmp_path / "absent.plan")
