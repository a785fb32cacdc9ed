"""Optional dependencies: imported where they are used, and named with their install line when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """A feature needs a package that an extra of this distribution brings.

    Attributes:
        package: The module that could not be imported.
        extra: The extra that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{package} is not installed; run: pip install 'tritonforge[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.package, self.extra)


def require_extra(package: str, extra: str) -> ModuleType:
    """Import a module that an extra brings.

    Args:
        package: Dotted module name.
        extra: The extra of ``tritonforge`` that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The package is not installed. An installed package that itself fails to import keeps its
            own error.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or package.partition(".")[0] != error.name.partition(".")[0]:
            raise
        raise MissingExtraError(package, extra) from error
