"""Triton's own rules for model repositories, checked without a server.

A rule has the id, the text and the place in the order of checks that it has in the server; a finding says where it is
broken and how to mend it. A repository that the server loads gets no error.
"""

from __future__ import annotations

from tritonforge_generator.lint.engine import lint_model, lint_repository, open_repositories
from tritonforge_generator.lint.finding import Finding, Severity
from tritonforge_generator.lint.host import Host
from tritonforge_generator.lint.rule import explain

__all__ = ["Finding", "Host", "Severity", "explain", "lint_model", "lint_repository", "open_repositories"]
