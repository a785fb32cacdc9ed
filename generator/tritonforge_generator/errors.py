"""Errors of the generator, one tree.

::

    source ──▶ graph ──▶ precision ──▶ plan ──▶ config ──▶ verify ──▶ repository ──▶ deploy
      │          │           │           │         │          │            │             │
    SourceError GraphError PrecisionError PlanError ConfigError VerificationError RepositoryError ServerError

    TritonforgeError
    ├── SpecError            the declared file or a flag is wrong
    ├── SourceError          the model file cannot be read
    ├── GraphError           the graph cannot be served as it is
    ├── PrecisionError       the graph cannot be given the types asked for
    ├── PlanError            TensorRT cannot build, load or run a plan
    │   ├── TensorRTMissingError
    │   └── PlanBuildError
    ├── ConfigError          the spec asks for what the graph or the server does not allow
    ├── VerificationError    a gate failed; nothing was published
    │   └── verify.GatesFailedError   with the gates and their figures
    ├── RepositoryError      the repository cannot be read or written
    ├── ServerError          the embedded server does not start or answer
    │   ├── ServerNotInstalledError
    │   ├── PortInUseError
    │   └── ServerExitedError
    └── BenchError           a runtime cannot be measured
        └── RuntimeMissingError

Each says what was expected, what came, and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class TritonforgeError(Exception):
    """Base of all errors that a user can mend.

    Args:
        what: What went wrong, with the name of the thing concerned.
        expected: What would have been right.
        got: What was found instead.
        action: What the user can do about it.
    """

    exit_code: ClassVar[int] = 2
    """Exit code of the command line: 2 for input that must change, 1 for a gate or a run that failed."""

    def __init__(self, what: str, *, expected: str = "", got: str = "", action: str = "") -> None:
        self.what = what
        self.expected = expected
        self.got = got
        self.action = action
        parts = [what]
        if expected != "" or got != "":
            facts = [f"expected {expected}"] if expected != "" else []
            facts += [f"got {got}"] if got != "" else []
            parts.append(": " + ", ".join(facts))
        text = "".join(parts)
        super().__init__(f"{text}. {action}" if action != "" else text)


class SpecError(TritonforgeError):
    """The declared file or a command-line flag is wrong."""


class SourceError(TritonforgeError):
    """The model file is missing, truncated or of another format."""


class GraphError(TritonforgeError):
    """The graph cannot be served as it is."""


class PrecisionError(TritonforgeError):
    """The graph cannot be given the types that were asked for."""


class PlanError(TritonforgeError):
    """TensorRT cannot build, load or run a plan."""


class TensorRTMissingError(PlanError):
    """TensorRT, its CUDA bindings or a GPU is missing on this machine."""


class PlanBuildError(PlanError):
    """The builder refused, failed, crashed or was stopped; the message quotes its own words."""

    exit_code = 1


class ConfigError(TritonforgeError):
    """The spec asks for something that the graph or the server does not allow."""


class VerificationError(TritonforgeError):
    """A gate failed, so nothing was published."""

    exit_code = 1


class RepositoryError(TritonforgeError):
    """The model repository cannot be read or written."""


class ServerError(TritonforgeError):
    """The embedded server does not start or answer."""

    exit_code = 1


class ServerNotInstalledError(ServerError):
    """No Triton server was found on this machine."""


class PortInUseError(ServerError):
    """Another process listens on a port that was asked for."""


class ServerExitedError(ServerError):
    """The server ended by itself; the message quotes its own error lines."""


class BenchError(TritonforgeError):
    """A runtime cannot be measured."""

    exit_code = 1


class RuntimeMissingError(BenchError):
    """A runtime, or the device that it needs, is not there."""
