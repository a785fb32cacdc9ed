"""A small repository as data: what is written, in which mode it is judged, and which rule it breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Files = Mapping[str, str | bytes]
Origin = Literal["broken", "neighbour", "random"]
_LINK: Final = "-> "


@dataclass(frozen=True)
class Case:
    """One model that the linter and the server judge.

    Attributes:
        name: Name of the model; unique among all cases.
        config: Its ``config.pbtxt``, in which ``REPOSITORY`` stands for the repository's path; ``None`` without one.
        files: Its other files by path in the model directory. A path that ends in a slash is an empty directory, a
            text that begins with ``-> `` a link.
        strict: Whether completion is off.
        rule: The rule that it breaks alone, or, for a neighbour, does not break; empty for a random combination.
        origin: Where it comes from.
    """

    name: str
    config: str | None
    files: Files
    strict: bool
    rule: str
    origin: Origin

    @property
    def group(self) -> str:
        """Letter of the rule, or ``random``."""
        return self.rule[:1] or "random"

    def write(self, repository: Path) -> None:
        """Write it as a model of a repository."""
        config = None if self.config is None else self.config.replace("REPOSITORY", str(repository))
        write_model(repository / self.name, config, self.files)


def write_model(directory: Path, config: str | None, files: Files) -> None:
    """Write a model directory; see ``Case`` for the files."""
    directory.mkdir(parents=True)
    if config is not None:
        (directory / "config.pbtxt").write_bytes(config.encode())
    for relative, content in files.items():
        path = directory / relative
        if relative.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith(_LINK):
            path.symlink_to(content.removeprefix(_LINK))
            continue
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def in_both_modes(rule: str, number: int, origin: Origin, config: str | None, files: Files) -> Iterator[Case]:
    """Yield a case for a server with completion and one for a server without; ``SELF`` stands for its name."""
    for strict in (False, True):
        name = f"{rule or origin}_{number}_{origin}_{'strict' if strict else 'completing'}"
        text = None if config is None else config.replace("SELF", name)
        yield Case(name, text, files, strict, rule, origin)
