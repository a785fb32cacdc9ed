"""Mends configs in place: only what is safe (see ``mending``), only where it adds no error, and only after asking."""

from __future__ import annotations

import difflib
import io
import os
import stat
import tempfile
from bisect import bisect, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.lint import edits
from tritonforge_generator.lint.edits import Edit
from tritonforge_generator.lint.engine import applicable, findings_of
from tritonforge_generator.lint.finding import Finding
from tritonforge_generator.lint.mending import MENDS
from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.repositories import Repositories
from tritonforge_generator.lint.rule import ALL_NEEDS, Hit, Needs

_Key = tuple[str, str, str]
_ANYBODY_WRITES: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Mended:
    """A config before and after.

    Attributes:
        path: The file.
        before: Its text.
        after: The text that mends it.
        rules: Ids of the rules that were broken, in the order in which they were mended.
    """

    path: Path
    before: str
    after: str
    rules: tuple[str, ...]

    def diff(self) -> str:
        """Return the change as a unified diff."""
        # What follows a blank would not be read as part of the name.
        name = f"{self.path}\t" if " " in str(self.path) else str(self.path)
        # Other characters that end lines for Python do not for the programs that read it.
        before, after = (list(io.StringIO(text, newline="\n")) for text in (self.before, self.after))
        # A last line without an end would run into what follows.
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in difflib.unified_diff(before, after, fromfile=name, tofile=name)
        )

    def check(self) -> None:
        """Make sure that the file may be replaced.

        Raises:
            RepositoryError: The file has changed since it was read, or is write-protected.
        """
        if _bytes(self.before) != self.path.read_bytes():
            raise RepositoryError(f"{self.path} has changed meanwhile", action="Lint it again.")
        if self.path.stat().st_mode & _ANYBODY_WRITES == 0 or not os.access(self.path, os.W_OK):
            raise RepositoryError(
                f"{self.path} is write-protected",
                action="Make it writable, or mend it where it comes from; --diff shows how.",
            )

    def write(self) -> None:
        """Replace the file, whole or not at all.

        Raises:
            RepositoryError: See ``check``.
            OSError: It cannot be written.
        """
        self.check()
        # Written beside it, so that a link stays one and the change is atomic.
        path = self.path.resolve()
        known = path.stat()
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(_bytes(self.after))
                stream.flush()
                os.fsync(stream.fileno())
            with suppress(PermissionError):
                os.chown(temporary, known.st_uid, known.st_gid)
            Path(temporary).chmod(stat.S_IMODE(known.st_mode))
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _bytes(text: str) -> bytes:
    return text.encode("utf-8")


def mend_model(model: Model, needs: Collection[Needs] = ALL_NEEDS) -> Mended | None:
    """Mend what is safe to mend in one config; nothing is written.

    Args:
        model: The model.
        needs: Only the rules that these decide.

    Returns:
        The change; ``None`` when there is none to make.
    """
    # What is not UTF-8 was replaced while reading and would be lost.
    if model.text is None or model.is_outside or "\ufffd" in model.text:
        return None
    # Mends may uncover errors that further mends remove, so all are tried together before each rule by itself.
    mended, rules = _mended(model, needs, MENDS)
    if _adds_errors(model, mended, needs):
        mended, rules = model, []
        for rule_id in MENDS:
            changed, broken = _mended(mended, needs, {rule_id})
            if broken and not _adds_errors(mended, changed, needs):
                mended, rules = changed, rules + broken
    if mended.text is None or mended.text == model.text:
        return None
    return Mended(model.path, model.text, mended.text, tuple(rules))


def _mended(model: Model, needs: Collection[Needs], rules: Collection[str]) -> tuple[Model, list[str]]:
    """Mend what the rules find, again and again until nothing is left; a text that does not parse ends it."""
    tried: set[_Key] = set()
    broken: list[str] = []
    while model.parse_failure is None:
        taken: list[Edit] = []
        for rule_id, key, changes in _steps(model, needs, rules):
            if key not in tried and not any(_overlaps(taken, edit) for edit in changes):
                for edit in changes:
                    insort(taken, edit)
                tried.add(key)
                broken += [rule_id] if rule_id not in broken else []
        if not taken:
            break
        model = model.with_text(edits.apply(model.text or "", taken))
    return model, broken


def _overlaps(taken: Sequence[Edit], edit: Edit) -> bool:
    index = bisect(taken, edit)
    before, after = taken[max(index - 1, 0) : index], taken[index : index + 1]
    return any(other.end > edit.start or other.start == edit.start for other in before) or any(
        other.start < edit.end or other.start == edit.start for other in after
    )


def _steps(
    model: Model, needs: Collection[Needs], rules: Collection[str]
) -> Iterator[tuple[str, _Key, Sequence[Edit]]]:
    """Yield ``(rule, key, edits)`` of what can be mended.

    A key stands for one place: it is mended once, as two versions may ask for opposite things.
    """
    for rule in applicable(model, needs):
        mend = MENDS.get(rule.id) if rule.id in rules else None
        for hit in rule.check(model) if mend is not None else ():
            changes = mend(model, hit) if mend is not None else ()
            if changes:
                yield rule.id, (rule.id, hit.field, _subject(model, hit)), changes


def _subject(model: Model, hit: Hit) -> str:
    """What stands at the place: after an element was cut out, the next one has its path."""
    place = model.place(hit.field)
    return "" if place is None else place.value


def _errors(model: Model, needs: Collection[Needs]) -> Counter[str]:
    return Counter(found.rule for found in findings_of(model, needs) if found.severity == "error")


def _adds_errors(before: Model, after: Model, needs: Collection[Needs]) -> bool:
    return not _errors(after, needs) <= _errors(before, needs)


def mend_repositories(
    repositories: Repositories, directories: Collection[Path], needs: Collection[Needs] = ALL_NEEDS
) -> list[Mended]:
    """Mend what is safe to mend in some models; nothing is written.

    Args:
        repositories: The repositories that they are in.
        directories: The models' directories.
        needs: Only the rules that these decide.

    Returns:
        The changes, in the order of the directories. None of them adds an error to any model of the repositories.
    """
    return list(_mends(repositories, directories, needs).values())


def _mends(repositories: Repositories, directories: Iterable[Path], needs: Collection[Needs]) -> dict[Path, Mended]:
    """Return the changes of ``mend_repositories`` by the model's directory."""
    shared = _sharing(repositories)
    found: dict[Path, Mended] = {}
    for directory in directories:
        mended = mend_model(repositories.read(directory), needs) if directory not in shared else None
        if mended is not None:
            found[directory] = mended
    while True:
        worse = _worse(repositories, found, needs)
        if worse is None:
            return found
        # An ensemble sees its models' configs: what harms it is not done, neither in it nor in them.
        models = {worse.name, *(step.model_name for step in worse.written.ensemble_scheduling.step)}
        kept = {directory: mended for directory, mended in found.items() if directory.name not in models}
        found = kept if len(kept) < len(found) else {}


def _sharing(repositories: Repositories) -> frozenset[Path]:
    """Return the directories of models whose configs are one file, by links: what mends one may break the other."""
    owners: dict[tuple[int, int], list[Path]] = {}
    for directory in (directory for found in repositories.directories.values() for directory in found):
        model = repositories.read(directory)
        if model.text is not None:
            known = model.path.stat()
            owners.setdefault((known.st_dev, known.st_ino), []).append(directory)
    return frozenset(directory for found in owners.values() if len(found) > 1 for directory in found)


def _worse(repositories: Repositories, found: Mapping[Path, Mended], needs: Collection[Needs]) -> Model | None:
    """Return a model that would have more errors than before; ``None`` when none has."""
    if not found:
        return None
    after = repositories.with_texts({directory: mended.after for directory, mended in found.items()})
    for directories in repositories.directories.values():
        for directory in directories:
            model = repositories.read(directory)
            if (directory in found or model.is_ensemble) and _adds_errors(model, after.read(directory), needs):
                return model
    return None


def mends_of(
    findings: Collection[Finding], repositories: Repositories, needs: Collection[Needs] = ALL_NEEDS
) -> dict[Finding, tuple[str, Sequence[Edit]]]:
    """Find the edits that mend single findings safely.

    Args:
        findings: The findings.
        repositories: The repositories that they are of.
        needs: Only the rules that these decide.

    Returns:
        The config's text and the edits, by finding; those that ``mend_repositories`` leaves are left out.
    """
    wanted = {(found.file, found.rule, found.field): found for found in findings}
    directories = {Path(finding.repository) / finding.model for finding in findings}
    found: dict[Finding, tuple[str, Sequence[Edit]]] = {}
    for directory, mended in _mends(repositories, directories, needs).items():
        model = repositories.read(directory)
        for rule_id, (_, field, _), changes in _steps(model, needs, mended.rules):
            finding = wanted.get((str(model.path), rule_id, field))
            if finding is not None:
                found[finding] = (mended.before, changes)
    return found
