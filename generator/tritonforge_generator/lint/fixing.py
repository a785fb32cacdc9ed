"""Mends configs in place: only what is safe (see ``mending``), only where it adds no error, and only after asking."""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
from bisect import bisect, insort
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
        name = str(self.path)
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        # A last line without an end would run into what follows.
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in difflib.unified_diff(before, after, fromfile=name, tofile=name)
        )

    def write(self) -> None:
        """Replace the file, whole or not at all.

        Raises:
            RepositoryError: The file has changed since it was read.
            OSError: It cannot be written.
        """
        if _bytes(self.before) != self.path.read_bytes():
            raise RepositoryError(f"{self.path} has changed meanwhile", action="Lint it again.")
        # Written beside it, so that a link stays one and the change is atomic.
        path = self.path.resolve()
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(_bytes(self.after))
            Path(temporary).chmod(stat.S_IMODE(path.stat().st_mode))
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
    found: dict[Path, Mended] = {}
    for directory in directories:
        mended = mend_model(repositories.read(directory), needs)
        if mended is not None:
            found[directory] = mended
    while True:
        worse = _worse(repositories, found, needs)
        if worse is None:
            return list(found.values())
        # An ensemble sees its models' configs: what harms it is not done, neither in it nor in them.
        models = {worse.name, *(step.model_name for step in worse.written.ensemble_scheduling.step)}
        kept = {directory: mended for directory, mended in found.items() if directory.name not in models}
        found = kept if len(kept) < len(found) else {}


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
        The config's text and the edits, by finding; those that ``mend_model`` leaves are left out.
    """
    wanted = {(found.file, found.rule, found.field): found for found in findings}
    found: dict[Finding, tuple[str, Sequence[Edit]]] = {}
    for directory in {Path(finding.repository) / finding.model for finding in findings}:
        model = repositories.read(directory)
        mended = mend_model(model, needs)
        for rule_id, (_, field, _), changes in _steps(model, needs, mended.rules) if mended is not None else ():
            finding = wanted.get((str(model.path), rule_id, field))
            if finding is not None:
                found[finding] = (model.text or "", changes)
    return found
