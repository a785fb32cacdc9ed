from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.repository import (
    Manifest,
    ModelRepository,
    ModelVersion,
    PublishStep,
    StagedModel,
    stage_model,
    swap_all,
)

PUBLISH = """
import os, signal, sys
from collections.abc import Callable, Mapping
from pathlib import Path
from test_staging import publish

def kill_at(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

publish(Path(sys.argv[1]), "second", on_step=kill_at)
"""


def manifest_of(staged: StagedModel, files: Mapping[str, str] | None = None) -> Manifest:
    return Manifest(
        model=staged.live.name,
        version=staged.version,
        source="m.onnx",
        files=staged.file_hashes(),
        config_sha256=hashlib.sha256(staged.folder.config_path.read_bytes()).hexdigest(),
        graph={},
        options={},
        model_files={name: hashlib.sha256(text.encode()).hexdigest() for name, text in (files or {}).items()},
    )


def fill(staged: StagedModel, content: str, *, config: str = "", files: Mapping[str, str] | None = None) -> Manifest:
    source = staged.folder.path.parent / "source.onnx"
    source.write_text(content)
    staged.add_file(source, "model.onnx", sha256=hashlib.sha256(content.encode()).hexdigest())
    staged.write_config(config or f"# {content}\n", {name: text.encode() for name, text in (files or {}).items()})
    return manifest_of(staged, files)


def publish(
    repository: Path,
    content: str,
    *,
    config: str = "",
    name: str = "m",
    files: Mapping[str, str] | None = None,
    on_step: Callable[[PublishStep], None] = lambda _: None,
    **options: Any,
) -> ModelVersion:
    with stage_model(repository, name, **options) as staged:
        version = staged.prepare(fill(staged, content, config=config, files=files), on_step)
        if version.new:
            staged.swap(on_step)
        return version


def files_of(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


def left_beside(repository: Path) -> list[str]:
    return sorted(path.name for path in repository.parent.iterdir() if path != repository)


def test_publishes_a_first_version(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    version = publish(repository, "first")
    assert (version.version, version.new) == (1, True)
    assert files_of(repository) == {"m/1/model.onnx": "first", "m/config.pbtxt": "# first\n"}
    manifest = ModelRepository(repository).model("m").manifest(1)
    assert manifest is not None
    assert manifest.files == {"model.onnx": hashlib.sha256(b"first").hexdigest()}
    assert left_beside(repository) == []


def test_puts_version_two_beside_one(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first")
    (repository / "m" / "labels.txt").write_text("cat\n")
    before = (repository / "m" / "1").stat().st_mtime_ns
    inode = (repository / "m" / "1" / "model.onnx").stat().st_ino
    assert publish(repository, "second").version == 2
    assert files_of(repository) == {
        "m/1/model.onnx": "first",
        "m/2/model.onnx": "second",
        "m/config.pbtxt": "# second\n",
        "m/labels.txt": "cat\n",
    }
    assert (repository / "m" / "1").stat().st_mtime_ns == before
    assert (repository / "m" / "1" / "model.onnx").stat().st_ino == inode
    assert ModelRepository(repository).model("m").versions == [1, 2]
    assert left_beside(repository) == []


def test_same_content_is_no_new_version(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first")
    again = publish(repository, "first")
    assert (again.version, again.new) == (1, False)
    assert publish(repository, "first", version=1).new is False
    assert ModelRepository(repository).model("m").versions == [1]


def test_published_versions_never_change(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first", version=4)
    with pytest.raises(RepositoryError, match="already has a version 4 of other content"):
        publish(repository, "second", version=4)
    assert publish(repository, "second").version == 5


def test_hand_edited_config_is_kept(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first")
    (repository / "m" / "config.pbtxt").write_text("# mine\n")
    with pytest.raises(RepositoryError, match=r"a text edited by hand.*--overwrite"):
        publish(repository, "second")
    assert files_of(repository) == {"m/1/model.onnx": "first", "m/config.pbtxt": "# mine\n"}
    publish(repository, "second", overwrite=True)
    assert files_of(repository)["m/config.pbtxt"] == "# second\n"


def test_a_model_of_another_tool_is_kept(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    (repository / "m" / "1").mkdir(parents=True)
    (repository / "m" / "config.pbtxt").write_text("# theirs\n")
    with pytest.raises(RepositoryError, match="another tool made this model"):
        publish(repository, "second")
    assert left_beside(repository) == []


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    repository = tmp_path / "models"

    def fail() -> None:
        with stage_model(repository, "m") as staged:
            staged.write_config("text")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_one_writer_a_model(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    with stage_model(repository, "m"):
        with (
            pytest.raises(RepositoryError, match=f"a lock held by process {os.getpid()}"),
            stage_model(repository, "m"),
        ):
            pass
        with stage_model(repository, "other"):
            pass
    with stage_model(repository, "m"):
        pass


def test_refuses_a_changed_source(tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    source.write_text("now")
    with stage_model(tmp_path / "models", "m") as staged, pytest.raises(RepositoryError, match="changed while"):
        staged.add_file(source, "model.onnx", sha256=hashlib.sha256(b"before").hexdigest())


@pytest.mark.parametrize("location", ["model.onnx", "manifest.json"])
def test_refuses_files_that_collide(tmp_path: Path, location: str) -> None:
    source = tmp_path / "source.onnx"
    source.write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    with stage_model(tmp_path / "models", "m") as staged:
        staged.add_file(source, "model.onnx", sha256=digest)
        with pytest.raises(RepositoryError, match="a name of its own"):
            staged.add_file(source, location, sha256=digest)


def test_refuses_the_root_of_a_mount() -> None:
    mount = next(
        Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if line.startswith("proc")
    )
    with pytest.raises(RepositoryError, match="root of a mount"), stage_model(mount, "m"):
        pass


# A first version has nothing to carry over.
KILLS = [
    (step, first) for step in get_args(PublishStep) for first in (True, False) if not (first and step == "carry over")
]


@pytest.mark.parametrize(("step", "first"), KILLS)
def test_kill_at_any_step_leaves_the_old_or_the_new_model(tmp_path: Path, step: str, first: bool) -> None:
    """``kill -9`` before each step: the model is whole, old until the swap and new after it, and the next run works."""
    repository = tmp_path / "models"
    old = {}
    if not first:
        publish(repository, "first")
        old = files_of(repository)
    killed = subprocess.run(
        [sys.executable, "-c", PUBLISH, str(repository), step], cwd=Path(__file__).parent, check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    number = 1 if first else 2
    new = {**old, f"m/{number}/model.onnx": "second", "m/config.pbtxt": "# second\n"}
    assert (files_of(repository) if repository.exists() else {}) == (new if step == "swapped" else old)
    assert {path.name for path in repository.iterdir()} <= {"m"} if repository.exists() else True
    # The next run finds no lock, clears what was left, and ends where the killed one was going.
    publish(repository, "second")
    assert files_of(repository) == new
    assert left_beside(repository) == []


def test_kill_while_files_are_staged_shows_nothing(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first")
    old = files_of(repository)
    code = (
        "import os, signal, sys; from pathlib import Path; from tritonforge_generator.repository import stage_model\n"
        "with stage_model(Path(sys.argv[1]), 'm') as staged:\n"
        "    (staged.version_path / 'model.onnx').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(repository)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert files_of(repository) == old
    assert publish(repository, "second").version == 2
    assert left_beside(repository) == []


# ---- what people have there ----


def test_files_that_people_put_into_folders_of_the_generator_stay(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first", files={"configs/staging.pbtxt": "s", "configs/test.pbtxt": "t"})
    (repository / "m" / "configs" / "canary.pbtxt").write_text("by hand")
    (repository / "m" / "configs" / "test.pbtxt").write_text("by hand too")
    publish(repository, "second", files={"configs/staging.pbtxt": "other"})
    configs = {name: text for name, text in files_of(repository).items() if "configs" in name}
    assert configs == {
        "m/configs/canary.pbtxt": "by hand",
        "m/configs/staging.pbtxt": "other",
        "m/configs/test.pbtxt": "by hand too",
    }


def test_a_file_that_was_edited_beside_the_configuration_is_not_replaced(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first", files={"labels.txt": "cat\n"})
    (repository / "m" / "labels.txt").write_text("dog\n")
    before = files_of(repository)
    for content, labels in (("first", "cat\n"), ("second", "cow\n")):
        with pytest.raises(RepositoryError, match=r"labels\.txt was not written by the last generation.*--overwrite"):
            publish(repository, content, files={"labels.txt": labels})
        assert files_of(repository) == before
    publish(repository, "second", files={"labels.txt": "cow\n"}, overwrite=True)
    assert files_of(repository)["m/labels.txt"] == "cow\n"


def test_a_file_of_another_tool_is_not_replaced(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first")
    (repository / "m" / "labels.txt").write_text("cat\n")
    with pytest.raises(RepositoryError, match=r"labels\.txt was not written by the last generation"):
        publish(repository, "first", files={"labels.txt": "dog\n"})
    assert publish(repository, "first", files={"labels.txt": "cat\n"}).version == 2


def test_a_version_that_was_damaged_gives_way_to_a_new_one(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first", files={"labels.txt": "cat\n"})
    (repository / "m" / "1" / "model.onnx").write_text("git-lfs pointer")
    assert publish(repository, "first", files={"labels.txt": "cat\n"}).version == 2
    assert files_of(repository)["m/2/model.onnx"] == "first"
    (repository / "m" / "labels.txt").unlink()
    assert publish(repository, "first", files={"labels.txt": "cat\n"}).version == 3
    assert files_of(repository)["m/labels.txt"] == "cat\n"
    (repository / "m" / "config.pbtxt").unlink()
    assert publish(repository, "first", files={"labels.txt": "cat\n"}).version == 4
    assert publish(repository, "first", files={"labels.txt": "cat\n"}).new is False


def test_a_configuration_that_was_there_first_is_kept(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    (repository / "m").mkdir(parents=True)
    (repository / "m" / "config.pbtxt").write_text("# mine\n")
    with pytest.raises(RepositoryError, match="another tool made this model"):
        publish(repository, "first")
    assert files_of(repository) == {"m/config.pbtxt": "# mine\n"}
    assert publish(repository, "first", overwrite=True).version == 1


def test_links_in_a_model_stay_links_wherever_they_lead(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first")
    (tmp_path / "common.txt").write_text("common")
    (repository / "m" / "near.txt").symlink_to("../../common.txt")
    (repository / "m" / "1" / "nowhere").symlink_to("absent")
    assert publish(repository, "second").version == 2
    assert (repository / "m" / "near.txt").read_text() == "common"
    assert (repository / "m" / "1" / "nowhere").is_symlink()


def test_a_link_in_the_place_of_a_model_is_refused(tmp_path: Path) -> None:
    repository, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    publish(elsewhere, "first")
    repository.mkdir()
    (repository / "m").symlink_to(elsewhere / "m")
    with pytest.raises(RepositoryError, match=r"m is no folder.*got a link to .*elsewhere"):
        publish(repository, "second")
    assert (repository / "m").is_symlink()


def test_a_version_folder_may_be_renamed(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(repository, "first")
    (repository / "m" / "1").rename(repository / "m" / "7")
    again = publish(repository, "first")
    assert (again.version, again.new) == (7, False)


def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(RepositoryError, match=r"nothing can be staged beside /proc/models: .*generate elsewhere"):
        publish(Path("/proc/models"), "first")


def test_a_manifest_of_a_newer_tool_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    path = publish(tmp_path / "models", "first").path / "manifest.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "manifest_version": 2, "colour": "blue"}))
    with pytest.raises(RepositoryError, match=r"in another form: expected manifest_version 1, got 2"):
        publish(tmp_path / "models", "second")
    path.write_text(path.read_text()[:-9])
    with pytest.raises(RepositoryError, match="cannot be read"):
        publish(tmp_path / "models", "second")


# ---- several models ----


@pytest.mark.parametrize("first", [True, False])
def test_one_that_cannot_be_published_takes_the_others_back(tmp_path: Path, first: bool) -> None:
    repository = tmp_path / "models"
    publish(repository, "old", name="b")
    if not first:
        publish(repository, "old", name="a")
    old = files_of(repository)
    with stage_model(repository, "a") as a, stage_model(repository, "b") as b:
        for staged in (a, b):
            assert staged.prepare(fill(staged, "new")).new
        (repository / "b" / "config.pbtxt").write_text("# edited meanwhile\n")
        with pytest.raises(RepositoryError, match=r"b/config\.pbtxt was not written by the last generation"):
            swap_all([a, b])
    assert files_of(repository) == {**old, "b/config.pbtxt": "# edited meanwhile\n"}
    assert left_beside(repository) == []
