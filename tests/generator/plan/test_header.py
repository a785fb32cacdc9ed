from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tritonforge_generator.errors import SourceError
from tritonforge_generator.plan import plan_header_from_path

# The first 28 bytes of a plan that TensorRT 8.6.0 wrote, which was 52,373,596 bytes long.
WRITTEN_BY_8_6_0 = bytes.fromhex("667472740000000001000000000000005c281f03000000000806000c")


def header(size_bytes: int, version: tuple[int, int, int, int] = (8, 6, 0, 12)) -> bytes:
    return struct.pack("<4sIQQ4B", b"ftrt", 0, 1, size_bytes, *version)


HEADER_8_6_0 = header(28)


def test_the_layout_is_that_of_a_real_plan() -> None:
    assert header(52_373_596) == WRITTEN_BY_8_6_0


def test_reads_the_version(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    path.write_bytes(header(128) + bytes(100))
    found = plan_header_from_path(path)
    assert (found.tensorrt_version, found.version_text, found.prefix_bytes) == ((8, 6, 0, 12), "8.6.0.12", 0)


def test_finds_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    metadata = json.dumps({"names": {"0": "cat"}}).encode()
    path.write_bytes(struct.pack("<I", len(metadata)) + metadata + HEADER_8_6_0)
    found = plan_header_from_path(path)
    assert found.version_text == "8.6.0.12"
    assert found.prefix_bytes == 4 + len(metadata)


@pytest.mark.parametrize("prefix", [b"", struct.pack("<I", 2) + b"{}"])
def test_sees_that_a_plan_is_cut_off(tmp_path: Path, prefix: bytes) -> None:
    path = tmp_path / "model.plan"
    path.write_bytes(prefix + header(1_000) + bytes(971))
    with pytest.raises(
        SourceError, match=r"is cut off: expected 1,000 bytes, as its header says, got 999\. Copy it again"
    ):
        plan_header_from_path(path)
    path.write_bytes(prefix + header(1_000) + bytes(972))
    assert plan_header_from_path(path).version_text == "8.6.0.12"


def test_believes_the_size_of_version_8_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    path.write_bytes(header(1_000, (10, 16, 1, 11)))
    assert plan_header_from_path(path).version_text == "10.16.1.11"


@pytest.mark.parametrize("content", [b"", b"ftrt", b"\x08\x0aonnx" * 10, struct.pack("<I", 5) + b"{" + bytes(40)])
def test_refuses_what_is_no_plan(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.plan"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="is no TensorRT plan: expected a file that begins with b'ftrt'"):
        plan_header_from_path(path)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        plan_header_from_path(tmp_path / "absent.plan")
