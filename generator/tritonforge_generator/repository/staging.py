"""Stages a model beside the repository, then swaps it in.

A model folder is always replaced whole: the staged one gets the older versions as hard links, and one ``renameat2``
exchanges both. So configuration and versions change together: a server or a crash sees the old model or the new one.
The staging folder lies beside the repository because Triton takes every folder inside it for a model.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.hashing import sha256_of_file, sha256_of_stream
from tritonforge_generator.repository.atomic import exchange, move_new, sync_path, sync_tree
from tritonforge_generator.repository.layout import CONFIG_FILENAME, ModelFolder
from tritonforge_generator.repository.lock import locked
from tritonforge_generator.repository.manifest import FILENAME, Manifest

PublishStep = Literal["manifest", "carry over", "sync", "swap", "swapped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """The artifact of the repository stage.

    Attributes:
        folder: The model's folder in the repository.
        version: The version number.
        new: False when the newest version already had the same content, so that nothing was written.
    """

    folder: ModelFolder
    version: int
    new: bool

    @property
    def path(self) -> Path:
        """The version folder."""
        return self.folder.path / str(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedModel:
    """A model folder that nobody serves yet; its parent folder is a repository of one model.

    Attributes:
        folder: The staged folder with ``config.pbtxt`` and one version.
        live: Where it will go.
        version: Its version number.
        overwrite: Whether a configuration that was edited by hand may be replaced.
    """

    folder: ModelFolder
    live: ModelFolder
    version: int
    overwrite: bool

    @property
    def version_path(self) -> Path:
        """The staged version folder."""
        return self.folder.path / str(self.version)

    def add_file(self, source: Path, location: str, *, sha256: str) -> None:
        """Copy a file into the version folder and check on the way that it is what was looked at.

        Args:
            source: The file.
            location: Its place relative to the version folder.
            sha256: Expected digest.

        Raises:
            RepositoryError: The file changed, or two files want the same place.
        """
        target = self.version_path / location
        if target.exists() or target.name == FILENAME:
            raise RepositoryError(
                f"the model's file {source} cannot be stored",
                expected=f"a name of its own beside {FILENAME}",
                got=f"'{location}'",
                action="Save the model with another name for its external data.",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as reader, target.open("xb") as writer:
            copied = sha256_of_stream(reader, copy_to=writer)
        if copied != sha256:
            raise RepositoryError(
                f"{source} changed while it was being published", expected=f"sha256 {sha256}", got=copied
            )

    def write_config(self, text: str) -> None:
        """Write ``config.pbtxt``."""
        self.folder.config_path.write_text(text, encoding="utf-8")

    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of every file of the version folder but the manifest, by relative path."""
        files = sorted(path for path in self.version_path.rglob("*") if path.is_file() and path.name != FILENAME)
        return {str(path.relative_to(self.version_path)): sha256_of_file(path) for path in files}

    def same_version(self, manifest: Manifest) -> ModelVersion | None:
        """Find a published version with the same content, or make sure that this one may be published.

        Args:
            manifest: What would be recorded of the version.

        Returns:
            The newest version (or the one asked for) when it has the same content, else ``None``.

        Raises:
            RepositoryError: The version number is taken by other content, or the live configuration was edited by hand.
        """
        taken = self.live.versions
        if not taken:
            return None
        rival = self.version if self.version in taken else taken[-1]
        recorded = self.live.manifest(rival)
        if recorded is not None and recorded.same_content(manifest) and self._config_untouched(recorded):
            return ModelVersion(folder=self.live, version=rival, new=False)
        self._refuse_taken_version(taken)
        self._refuse_hand_edits(self.live.manifest(taken[-1]))
        return None

    def publish(self, manifest: Manifest, on_step: Callable[[PublishStep], None] = lambda _: None) -> ModelVersion:
        """Make the staged model the served one, or find that it already is.

        Args:
            manifest: What to record of the version.
            on_step: Called before each step, and once after the swap.

        Returns:
            The version, with ``new`` false when the newest version (or the one asked for) has the same content.

        Raises:
            RepositoryError: The version number is taken by other content, the live configuration was edited by hand,
                or the file system refuses.
        """
        same = self.same_version(manifest)
        if same is not None:
            return same
        on_step("manifest")
        (self.version_path / FILENAME).write_text(manifest.to_json(), encoding="utf-8")
        if self.live.path.exists():
            on_step("carry over")
            _carry_over(self.live.path, self.folder.path)
        on_step("sync")
        sync_tree(self.folder.path)
        on_step("swap")
        self.live.path.parent.mkdir(parents=True, exist_ok=True)
        if self.live.path.exists():
            exchange(self.folder.path, self.live.path)
        else:
            move_new(self.folder.path, self.live.path)
        sync_path(self.live.path.parent)
        on_step("swapped")
        return ModelVersion(folder=self.live, version=self.version, new=True)

    def _config_untouched(self, recorded: Manifest) -> bool:
        path = self.live.config_path
        return path.is_file() and sha256_of_file(path) == recorded.config_sha256

    def _refuse_taken_version(self, taken: list[int]) -> None:
        if self.version in taken:
            raise RepositoryError(
                f"model '{self.live.name}' already has a version {self.version} of other content",
                expected="a number that is not taken; published versions never change",
                got=f"versions {taken}",
                action="Leave the version out to take the next one.",
            )

    def _refuse_hand_edits(self, recorded: Manifest | None) -> None:
        if self.overwrite or (recorded is not None and self._config_untouched(recorded)):
            return
        raise RepositoryError(
            f"{self.live.config_path} was not written by the last generation",
            expected="the text that the newest version's manifest records",
            got="no manifest, so another tool made this model" if recorded is None else "a text edited by hand",
            action="Move the change into the spec, or replace it with --overwrite.",
        )


@contextmanager
def stage_model(
    repository: Path, name: str, *, version: int | None = None, overwrite: bool = False
) -> Iterator[StagedModel]:
    """Lock a model and give it an empty staged folder; whatever is not published is removed at the end.

    Args:
        repository: The model repository; it need not exist yet.
        name: Model name.
        version: Version number; by default one more than the highest.
        overwrite: Let publishing replace a configuration that was edited by hand.

    Raises:
        RepositoryError: Another process publishes the model, or staging has no place.
    """
    live = ModelFolder(repository / name)
    root = repository.resolve()
    state = root.parent / f".{root.name}.tritonforge"
    _refuse_bad_place(root)
    try:
        with locked(state / f"{name}.lock"):
            taken = live.versions
            staged = state / f"{name}.staged"
            shutil.rmtree(staged, ignore_errors=True)  # what a killed process left
            number = version if version is not None else (taken[-1] + 1 if taken else 1)
            (staged / name / str(number)).mkdir(parents=True)
            try:
                yield StagedModel(folder=ModelFolder(staged / name), live=live, version=number, overwrite=overwrite)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
    finally:
        with suppress(OSError):  # not empty: another model is being published
            state.rmdir()


def _refuse_bad_place(repository: Path) -> None:
    if repository.exists() and not repository.is_dir():
        raise RepositoryError(f"{repository} is not a folder", expected="a model repository", got="a file")
    if repository.is_dir() and repository.is_mount():
        raise RepositoryError(
            f"{repository} is the root of a mount, so nothing can be staged beside it on the same file system",
            expected="a folder below the mount",
            got=str(repository),
            action=f"Use {repository / 'models'} as the model repository.",
        )


def _carry_over(live: Path, staged: Path) -> None:
    """Link everything of the live model but its configuration into the staged one, with the same times.

    A server that polls compares modification times, so versions that did not change are not loaded again.
    """
    for entry in sorted(live.iterdir()):
        target = staged / entry.name
        if entry.name == CONFIG_FILENAME or target.exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, target, symlinks=True, copy_function=_link)
        else:
            _link(entry, target)


def _link(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)
