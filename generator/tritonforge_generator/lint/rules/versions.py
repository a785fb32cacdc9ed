"""V: version directories."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge_generator.lint.model import NOT_VERSIONS, Model
from tritonforge_generator.lint.rule import Hit, rule

_NUMBER_BEGINS: Final = re.compile(r"\s*[+-]?\d", re.ASCII)


@rule(
    "V1",
    needs="dir",
    severity="warning",
    text="ignore version directory '{version}' which contains leading zeros in its directory name",
    fix="Rename it to '{mended}'.",
)
def version_has_no_leading_zeros(model: Model) -> Iterator[Hit]:
    """A version directory's name does not begin with 0: the server ignores it."""
    for index, name in enumerate(model.subdirectories):
        if len(name) > 1 and name.startswith("0"):
            mended = name.lstrip("0") or "0"
            yield Hit("", {"version": name, "mended": mended}, at=(index,), file=model.directory / name)


@rule(
    "V2",
    needs="dir",
    severity="warning",
    text="ignore version directory '{version}' which fails to convert to integral number",
    fix="Name versions by numbers: 1, 2, 3. A directory that is none is better kept outside the model.",
)
def version_is_a_number(model: Model) -> Iterator[Hit]:
    """Every sub-directory but warmup, initial_state and configs is a version, so its name is a number."""
    versions = set(model.existing_versions.values())
    for index, name in enumerate(model.subdirectories):
        if name not in versions and name not in NOT_VERSIONS and not name.startswith("0") and not _is_huge(name):
            yield Hit("", {"version": name}, at=(index,), file=model.directory / name)


def _is_huge(name: str) -> bool:
    return _NUMBER_BEGINS.match(name) is not None


@rule(
    "V3",
    needs="dir",
    severity="warning",
    text="version {version} is specified for model '{name}', but the version directory is not present",
    fix="Remove {version} from `versions`, or add the directory.",
)
def specific_version_exists(model: Model) -> Iterator[Hit]:
    """Every version that ``version_policy.specific`` lists has a directory; the others are loaded all the same."""
    for index, version in enumerate(model.config.version_policy.specific.versions):
        if version not in model.existing_versions:
            path = f"version_policy.specific.versions[{index}]"
            yield Hit(path, {"version": version, "name": model.name}, at=(index,))


@rule(
    "V4",
    needs="dir",
    text="at least one version must be available under the version policy of model '{name}'",
    fix="Add a version directory named by a number, for example '1'; an ensemble needs one too and it may be empty.",
)
def a_version_is_left(model: Model) -> Iterator[Hit]:
    """There is a version directory, and the version policy selects one."""
    if not model.versions:
        yield Hit("version_policy", {"name": model.name})
