from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tritonforge_generator.plan import tensorrt_api, timing_cache
from tritonforge_generator.plan.cuda import Gpu

H200 = Gpu(device_id=0, name="NVIDIA H200", compute_capability="9.0", memory_bytes=1 << 37, driver_cuda_version="13.0")


def config_that_knows(*layers: str) -> Any:
    config = tensorrt_api.tensorrt().IBuilderConfig()
    config.set_timing_cache(config.create_timing_cache(b""), False)
    config.get_timing_cache()._known.update(layers)
    return config


def known_in(path: Path) -> set[str]:
    config = tensorrt_api.tensorrt().IBuilderConfig()
    assert timing_cache.load_into(config, path) == path.stat().st_size
    found: set[str] = config.get_timing_cache()._known
    return found


def test_a_file_for_each_gpu_model_and_version(tmp_path: Path) -> None:
    path = timing_cache.cache_path(tmp_path, H200, "8.6.0")
    assert path == tmp_path / "nvidia-h200-sm90-tensorrt-8.6.0.cache"
    assert timing_cache.cache_path(tmp_path, H200, "10.16.1.11") != path


def test_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert timing_cache.default_folder() == tmp_path / "tritonforge" / "timing"


def test_a_cache_that_does_not_exist_is_new(version: str, tmp_path: Path) -> None:
    config = tensorrt_api.tensorrt().IBuilderConfig()
    assert timing_cache.load_into(config, tmp_path / "absent.cache") == 0
    assert config.get_timing_cache()._known == set()


@pytest.mark.parametrize("content", [b"", b"cut off", b"\x00" * 100])
def test_a_damaged_cache_is_ignored_and_replaced(version: str, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.cache"
    path.write_bytes(content)
    config = tensorrt_api.tensorrt().IBuilderConfig()
    assert timing_cache.load_into(config, path) == 0
    config.get_timing_cache()._known.add("conv1")
    timing_cache.save_from(config, path)
    assert known_in(path) == {"conv1"}


def test_what_other_builds_wrote_meanwhile_is_kept(version: str, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "one.cache"
    assert timing_cache.save_from(config_that_knows("conv1"), path) == path.stat().st_size
    timing_cache.save_from(config_that_knows("conv2"), path)
    assert known_in(path) == {"conv1", "conv2"}


def test_builds_at_the_same_time_lose_nothing(tensorrt: None, tmp_path: Path) -> None:
    path = tmp_path / "one.cache"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: timing_cache.save_from(config_that_knows(f"conv{number}"), path), range(40)))
    assert known_in(path) == {f"conv{number}" for number in range(40)}
    assert sorted(one.name for one in tmp_path.iterdir()) == ["one.cache", "one.lock"]


def test_a_write_that_fails_leaves_the_old_cache(
    tensorrt: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.cache"
    timing_cache.save_from(config_that_knows("conv1"), path)

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            timing_cache.save_from(config_that_knows("conv2"), path)
    assert known_in(path) == {"conv1"}
    assert sorted(one.name for one in tmp_path.iterdir()) == ["one.cache", "one.lock"]
