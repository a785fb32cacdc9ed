"""What every report says of the run itself: when, with what, on which machine."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from importlib import metadata

from tritonforge_generator.report.model import Fact, RunReport


def report_here(title: str, command: Sequence[str], environment: Iterable[Fact] = ()) -> RunReport:
    """A report of a run on this machine, with nothing in it yet.

    Args:
        title: The model's name, or what the run was about.
        command: What was run, word by word.
        environment: Facts beside the machine itself.
    """
    machine = f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    return RunReport(
        title=title,
        command=shlex.join(command),
        started_at=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        tool=f"tritonforge {metadata.version('tritonforge')}",
        environment=(Fact(label="Machine", value=machine), *environment),
    )


def software() -> Iterator[Fact]:
    """Python and the packages that shape what is generated."""
    from tritonforge_generator.made import package_versions  # it needs the extra generator, a report does not

    yield Fact(label="Python", value=platform.python_version())
    for package, version in package_versions().items():
        yield Fact(label=package, value=version)
