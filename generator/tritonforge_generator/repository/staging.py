"""Stages a model beside the repository, then swaps it in.

A model folder is always replaced whole: the staged one gets the older versions as hard links, and one ``renameat2``
exchanges both. So configuration and versions change together: a server or a crash sees the old model or the new one.
The staging folder lies beside the repository because Triton takes every folder inside it for a model.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from tritonforge_generator.config import ModelConfig
from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.hashing import sha256_of_file, sha256_of_stream
from tritonforge_generator.repository.atomic import exchange, move_new, sync_path, sync_tree
from tritonforge_generator.repository.generated import generated_last
from tritonforge_generator.repository.layout import CONFIG_FILENAME, ModelFolder
from tritonforge_generator.repository.lock import locked
from tritonforge_generator.repository.manifest import FILENAME, Manifest
from tritonforge_generator.repository.merge import Merged, Side, merged_config

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


@dataclass(slots=True, kw_only=True)
class StagedModel:
    """A model folder that nobody serves yet; its parent folder is a repository of one model.

    Attributes:
        folder: The staged folder with ``config.pbtxt`` and one version.
        live: Where it will go.
        version: Its version number.
        overwrite: Whether a configuration that was edited by hand may be replaced.
        on_conflict: Which side wins where both the spec and a hand changed a field; by default neither does.
        record: What the manifest records of how it was made, beside what the manifest says itself.
        seen_sha256: By location, the live configurations that staged ones were merged with.
        written: Places of the files that were written beside ``config.pbtxt``.
        is_swapped: Whether the staged model is live now.
    """

    folder: ModelFolder
    live: ModelFolder
    version: int
    overwrite: bool
    on_conflict: Side | None = None
    record: dict[str, Any] = field(default_factory=dict)
    seen_sha256: dict[str, str] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    is_swapped: bool = False

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
                action="Give it another name; for external data, save the model again.",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as reader, target.open("xb") as writer:
            copied = sha256_of_stream(reader, copy_to=writer)
        if copied != sha256:
            raise RepositoryError(
                f"{source} changed while it was being published", expected=f"sha256 {sha256}", got=copied
            )

    def merged_with_live(self, config: ModelConfig, location: str = CONFIG_FILENAME) -> Merged:
        """Merge what the spec gives with what people wrote into a live configuration, and record both.

        A live ``config.pbtxt`` that nothing is recorded of is left alone: publishing refuses it.

        Args:
            config: What the spec gives.
            location: Where the live configuration lies in the model's folder.

        Raises:
            RepositoryError: The live configuration cannot be read, nothing is recorded of one that is not the model's
                own, or ``ConflictError``: both changed a field.
        """
        merged, path = Merged(config), self.live.path / location
        if path.is_file():
            data = path.read_bytes()
            digest, theirs = sha256(data).hexdigest(), data.decode("utf-8", errors="replace")
            base = generated_last(self.live, location, digest, theirs=theirs, ours=config.text)
            if base is not None:
                merged = merged_config(
                    config,
                    base=base,
                    theirs=theirs,
                    origin=str(path),
                    on_conflict=self.on_conflict,
                    overwrite=self.overwrite,
                )
                self.seen_sha256[location] = digest
            elif location != CONFIG_FILENAME and not self.overwrite and theirs != config.text:
                raise _not_generated(path, "a text that nothing is recorded of")
        record = self.record.setdefault("configs", {})
        record[location] = {
            "generated": config.text.removesuffix("\n").split("\n"),
            "kept": [edit.to_json() for edit in merged.kept],
            "dropped": [edit.to_json() for edit in merged.dropped],
        }
        return merged

    def write_config(self, text: str, files: Mapping[str, bytes] | None = None) -> None:
        """Write ``config.pbtxt``, and the files that it names.

        Args:
            text: The configuration.
            files: Contents by place relative to the model's folder.
        """
        self.folder.config_path.write_text(text, encoding="utf-8")
        for location, data in (files or {}).items():
            target = self.folder.path / location
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            self.written.append(location)

    def carry_over(self) -> None:
        """Link what the live model has and the staged one lacks, but its configuration.

        These are older versions, which the version policy may serve, and files that people put there, which the
        configuration may name; so gates see the folder as it will be.
        """
        for entry in sorted(self.live.path.iterdir()) if self.live.path.is_dir() else ():
            if entry.name != str(self.version):
                _link_missing(entry, self.folder.path / entry.name)

    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of every file of the version folder but the manifest, by relative path."""
        return file_hashes_of(self.version_path)

    def rival(self) -> Manifest | None:
        """What is recorded of the version to compare with: the one asked for where it is taken, else the newest.

        Raises:
            RepositoryError: The record cannot be read.
        """
        taken = self.live.versions
        return self.live.manifest(self.version if self.version in taken else taken[-1]) if taken else None

    def damaged(self, recorded: Manifest) -> list[str]:
        """Published files that are missing, or others, and were not merged.

        Args:
            recorded: What is recorded of them.

        Returns:
            Paths relative to the model's folder.
        """
        return [location for location in self.live.changed_files(recorded) if location not in self.seen_sha256]

    def prepare(self, manifest: Manifest, on_step: Callable[[PublishStep], None] = lambda _: None) -> ModelVersion:
        """Complete the staged folder, so that nothing but ``swap`` is left to do; or find that all of it is published.

        Args:
            manifest: What to record of the version.
            on_step: Called before each step.

        Returns:
            The version as it will be, with ``new`` false when the newest version (or the one asked for) has the same
            content and is whole.

        Raises:
            RepositoryError: The version number is taken by other content, or something would be lost.
        """
        same = self._same_version(manifest)
        if same is not None:
            return same
        self.refuse_losses()
        on_step("manifest")
        complete = replace(manifest, made={**manifest.made, **self.record})
        (self.version_path / FILENAME).write_text(complete.to_json(), encoding="utf-8")
        if self.live.path.exists():
            on_step("carry over")
            self.carry_over()
            self._remove_old_files(manifest)
        on_step("sync")
        sync_tree(self.folder.path)
        return ModelVersion(folder=self.live, version=self.version, new=True)

    def swap(self, on_step: Callable[[PublishStep], None] = lambda _: None) -> None:
        """Make the prepared model the served one; ``take_back`` undoes it while the model is staged.

        Args:
            on_step: Called before the swap and after it.

        Raises:
            RepositoryError: The live configuration was edited meanwhile, or the file system refuses.
        """
        self._refuse_edited_config(self._newest_manifest())
        on_step("swap")
        self.live.path.parent.mkdir(parents=True, exist_ok=True)
        if self.live.path.exists():
            exchange(self.folder.path, self.live.path)
        else:
            move_new(self.folder.path, self.live.path)
        self.is_swapped = True
        sync_path(self.live.path.parent)
        on_step("swapped")

    def take_back(self) -> None:
        """Bring the model back that was live before ``swap``; nothing where it was not swapped."""
        if not self.is_swapped:
            return
        if self.folder.path.exists():
            exchange(self.live.path, self.folder.path)
        else:
            move_new(self.live.path, self.folder.path)
        self.is_swapped = False

    def refuse_losses(self) -> None:
        """Make sure that publishing takes nothing away that people or another tool wrote.

        Raises:
            RepositoryError: The version number is taken, or a file would be replaced that the last generation did not
                write and ``overwrite`` does not give up.
        """
        taken = self.live.versions
        if self.version in taken:
            raise RepositoryError(
                f"model '{self.live.name}' already has a version {self.version} of other content",
                expected="a number that is not taken; published versions never change",
                got=f"versions {taken}",
                action="Leave the version out to take the next one.",
            )
        recorded = self._newest_manifest()
        self._refuse_edited_config(recorded)
        self._refuse_edited_files(recorded)

    @property
    def is_merged(self) -> bool:
        """Whether everything in the live configuration is in the staged one, or is dropped on purpose."""
        path = self.live.config_path
        return not self.overwrite and path.is_file() and sha256_of_file(path) == self.seen_sha256.get(CONFIG_FILENAME)

    def _newest_manifest(self) -> Manifest | None:
        taken = self.live.versions
        return self.live.manifest(taken[-1]) if taken else None

    def _same_version(self, manifest: Manifest) -> ModelVersion | None:
        """The newest published version, or the one asked for, if it has the same content and is whole."""
        recorded = self.rival()
        if recorded is None or not recorded.same_content(manifest) or self.damaged(recorded):
            return None
        if not (self._config_untouched(recorded) or self.is_merged):
            return None
        return ModelVersion(folder=self.live, version=recorded.version, new=False)

    def _remove_old_files(self, manifest: Manifest) -> None:
        """Take away what the last generation wrote beside ``config.pbtxt`` and nothing names any more."""
        recorded = self._newest_manifest()
        named = self.folder.config_path.read_text(encoding="utf-8")
        for location, digest in recorded.model_files.items() if recorded is not None else ():
            path = self.folder.path / location
            if location in manifest.model_files or f'"{path.name}"' in named:
                continue
            if path.is_file() and sha256_of_file(path) == digest:  # people did not change it
                path.unlink()
                with suppress(OSError):  # others are left
                    path.parent.rmdir()

    def _config_untouched(self, recorded: Manifest) -> bool:
        path = self.live.config_path
        return path.is_file() and sha256_of_file(path) == recorded.config_sha256

    def _refuse_edited_config(self, recorded: Manifest | None) -> None:
        if self.overwrite or self.is_merged or (recorded is not None and self._config_untouched(recorded)):
            return
        if CONFIG_FILENAME in self.seen_sha256:
            raise RepositoryError(
                f"{self.live.config_path} changed while the model was generated",
                expected=f"sha256 {self.seen_sha256[CONFIG_FILENAME]}",
                got="another text, or none",
                action="Generate again.",
            )
        if not self.live.config_path.exists() and (recorded is not None or not self.live.versions):
            return  # there is nothing to lose
        got = "a text edited by hand, and only the hash of what was generated"
        raise _not_generated(
            self.live.config_path, "no manifest, so another tool made this model" if recorded is None else got
        )

    def _refuse_edited_files(self, recorded: Manifest | None) -> None:
        """Files beside the configuration, such as labels, are not merged: what is in them is declared."""
        published = recorded.model_files if recorded is not None else {}
        for location in self.written:
            theirs = self.live.path / location
            if self.overwrite or location in self.seen_sha256 or not theirs.is_file():
                continue
            if sha256_of_file(theirs) not in {published.get(location), sha256_of_file(self.folder.path / location)}:
                raise _not_generated(theirs, "another file than the one that was published")


def swap_all(staged: Sequence[StagedModel]) -> None:
    """Publish prepared models one after another; where one cannot be, those before it are taken back.

    Args:
        staged: The models, in the order in which they go live.

    Raises:
        RepositoryError: As ``StagedModel.swap``; everything is as it was before.
    """
    try:
        for one in staged:
            one.swap()
    except BaseException:
        for one in reversed(staged):
            one.take_back()
        raise


def _not_generated(path: Path, got: str) -> RepositoryError:
    return RepositoryError(
        f"{path} was not written by the last generation",
        expected="what the newest version's manifest records, or a text to merge it with",
        got=got,
        action="Move the change into the spec, or replace it with --overwrite.",
    )


def file_hashes_of(version_path: Path) -> dict[str, str]:
    """SHA-256 of every file of a version folder, by relative path, but the manifest and what Python leaves behind."""
    left_out = {FILENAME, "__pycache__"}
    files = {path.relative_to(version_path): path for path in sorted(version_path.rglob("*")) if path.is_file()}
    return {str(place): sha256_of_file(path) for place, path in files.items() if not left_out & set(place.parts)}


@contextmanager
def stage_model(
    repository: Path,
    name: str,
    *,
    version: int | None = None,
    overwrite: bool = False,
    on_conflict: Side | None = None,
) -> Iterator[StagedModel]:
    """Lock a model and give it an empty staged folder; whatever is not published is removed at the end.

    Args:
        repository: The model repository; it need not exist yet.
        name: Model name.
        version: Version number; by default one more than the highest.
        overwrite: Let publishing replace a configuration that was edited by hand.
        on_conflict: Which side wins where both the spec and a hand changed a field; by default neither does.

    Raises:
        RepositoryError: Another process publishes the model, or staging has no place.
    """
    live = ModelFolder(repository / name)
    root = repository.resolve()
    state = _state_of(root)
    _refuse_bad_place(root)
    _refuse_other_than_folder(live.path)
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RepositoryError(
            f"nothing can be staged beside {repository}",
            expected=f"to write to {root.parent}: models are completed there, and moved into place by one rename",
            got=os.strerror(error.errno or 0),
            action="Allow that, or generate elsewhere and copy the repository.",
        ) from error
    try:
        with locked(state / f"{name}.lock"):
            taken = live.versions
            staged = state / f"{name}.staged"
            shutil.rmtree(staged, ignore_errors=True)  # what a killed process left
            number = version if version is not None else (taken[-1] + 1 if taken else 1)
            (staged / name / str(number)).mkdir(parents=True)
            try:
                yield StagedModel(
                    folder=ModelFolder(staged / name),
                    live=live,
                    version=number,
                    overwrite=overwrite,
                    on_conflict=on_conflict,
                )
            finally:
                shutil.rmtree(staged, ignore_errors=True)
    finally:
        with suppress(OSError):  # not empty: another model is being published
            state.rmdir()


def remove_leftovers(repository: Path) -> None:
    """Remove what killed processes left beside a repository; what a living one stages is locked.

    Args:
        repository: The model repository; it need not exist.
    """
    state = _state_of(repository.resolve())
    for name in {entry.stem for entry in state.iterdir()} if state.is_dir() else ():
        with suppress(RepositoryError), locked(state / f"{name}.lock"):
            shutil.rmtree(state / f"{name}.staged", ignore_errors=True)
    with suppress(OSError):  # not there, or not empty
        state.rmdir()


def _state_of(root: Path) -> Path:
    return root.parent / f".{root.name}.tritonforge"


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


def _refuse_other_than_folder(live: Path) -> None:
    if live.is_symlink() or (live.exists() and not live.is_dir()):
        raise RepositoryError(
            f"{live} is no folder, and a rename would replace it",
            expected="a folder, or nothing",
            got=f"a link to {live.readlink()}" if live.is_symlink() else "a file",
            action="Move it away, or generate into the repository that it leads to.",
        )


def _link_missing(source: Path, target: Path) -> None:
    """Link what the live model has and the staged one lacks, with the same times.

    A server that polls compares modification times, so versions that did not change are not loaded again.
    """
    is_folder = source.is_dir() and not source.is_symlink()
    if is_folder and target.is_dir():
        for entry in sorted(source.iterdir()):
            _link_missing(entry, target / entry.name)
    elif os.path.lexists(target):
        return
    elif is_folder:
        shutil.copytree(source, target, symlinks=True, copy_function=_link)
    else:
        _link(source, target)


def _link(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)
