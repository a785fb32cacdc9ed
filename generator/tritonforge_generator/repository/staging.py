"""Stages a model beside the repository, then swaps it in.

A model folder is always replaced whole: the staged one gets the older versions as hard links, and one ``renameat2``
exchanges both. So configuration and versions change together: a server or a crash sees the old model or the new one.
The staging folder lies beside the repository because Triton takes every folder inside it for a model.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from tritonforge_generator.config import ModelConfig
from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.hashing import sha256_of_file, sha256_of_stream
from tritonforge_generator.repository.atomic import exchange, move_new, sync_path, sync_tree
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
    """

    folder: ModelFolder
    live: ModelFolder
    version: int
    overwrite: bool
    on_conflict: Side | None = None
    record: dict[str, Any] = field(default_factory=dict)
    seen_sha256: dict[str, str] = field(default_factory=dict)

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
            "generated": config.text.splitlines(),
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
        if self.record.get("configs", {}).get(CONFIG_FILENAME, {}).get("kept"):
            # What people wrote may name files beside the configuration, and the gates look for them.
            _carry_over(self.live.path, self.folder.path, leave={str(number) for number in self.live.versions})

    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of every file of the version folder but the manifest, by relative path."""
        return file_hashes_of(self.version_path)

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
        untouched = recorded is not None and (self._config_untouched(recorded) or self.is_merged)
        if recorded is not None and untouched and recorded.same_content(manifest):
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
        complete = replace(manifest, made={**manifest.made, **self.record})
        (self.version_path / FILENAME).write_text(complete.to_json(), encoding="utf-8")
        if self.live.path.exists():
            on_step("carry over")
            _carry_over(self.live.path, self.folder.path)
            self._remove_old_files(manifest)
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

    def _remove_old_files(self, manifest: Manifest) -> None:
        """Take away what the last generation wrote beside ``config.pbtxt`` and nothing names any more."""
        taken = self.live.versions
        recorded = self.live.manifest(taken[-1]) if taken else None
        named = self.folder.config_path.read_text(encoding="utf-8")
        for location, digest in recorded.model_files.items() if recorded is not None else ():
            path = self.folder.path / location
            if location in manifest.model_files or f'"{path.name}"' in named:
                continue
            if path.is_file() and sha256_of_file(path) == digest:  # people did not change it
                path.unlink()
                with suppress(OSError):  # others are left
                    path.parent.rmdir()

    @property
    def is_merged(self) -> bool:
        """Whether everything in the live configuration is in the staged one, or is dropped on purpose."""
        path = self.live.config_path
        return not self.overwrite and path.is_file() and sha256_of_file(path) == self.seen_sha256.get(CONFIG_FILENAME)

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
        if self.overwrite or self.is_merged or (recorded is not None and self._config_untouched(recorded)):
            return
        if CONFIG_FILENAME in self.seen_sha256:
            raise RepositoryError(
                f"{self.live.config_path} changed while the model was generated",
                expected=f"sha256 {self.seen_sha256[CONFIG_FILENAME]}",
                got="another text, or none",
                action="Generate again.",
            )
        got = "a text edited by hand, and only the hash of what was generated"
        raise _not_generated(
            self.live.config_path, "no manifest, so another tool made this model" if recorded is None else got
        )


def _not_generated(path: Path, got: str) -> RepositoryError:
    return RepositoryError(
        f"{path} was not written by the last generation",
        expected="the text that the newest version's manifest records, or one to merge it with",
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


def generated_last(live: ModelFolder, location: str, digest: str, *, theirs: str, ours: str) -> str | None:
    """The text that the generator gave last, before what people wrote was merged into it.

    Args:
        live: The published model.
        location: Where the configuration lies in its folder.
        digest: SHA-256 of the configuration.
        theirs: The configuration.
        ours: What the spec gives now; it is the text sought where it has the recorded hash.

    Returns:
        The text; ``None`` where only a hash is recorded of it, or nothing.
    """
    recorded = [manifest for version in reversed(live.versions) if (manifest := live.manifest(version)) is not None]
    same = [manifest for manifest in recorded if _config_hash(manifest, location) == digest]
    for manifest in [*same, *recorded][:1]:
        lines = manifest.made.get("configs", {}).get(location, {}).get("generated")
        if lines is not None:
            return "\n".join(lines) + "\n"
        if _config_hash(manifest, location) == digest:
            return theirs
        if _config_hash(manifest, location) == sha256(ours.encode()).hexdigest():
            return ours
    return None


def _config_hash(manifest: Manifest, location: str) -> str | None:
    return manifest.config_sha256 if location == CONFIG_FILENAME else manifest.model_files.get(location)


def _carry_over(live: Path, staged: Path, *, leave: Collection[str] = ()) -> None:
    """Link everything of the live model but its configuration into the staged one, with the same times.

    A server that polls compares modification times, so versions that did not change are not loaded again.
    """
    for entry in sorted(live.iterdir()):
        target = staged / entry.name
        if entry.name == CONFIG_FILENAME or entry.name in leave or target.exists():
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
