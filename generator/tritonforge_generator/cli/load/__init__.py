"""``tritonforge load``."""

from tritonforge_generator.cli.load.group import command

__all__ = ["command"]
