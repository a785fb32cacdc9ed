"""Errors of load tests, in the generator's tree.

::

    TritonforgeError
    ├── SpecError    the campaign file is wrong, or does not fit the models
    └── LoadError    the campaign could not be run
        └── UnwrittenError    it was run, and not all outputs could be written (in ``runner``)
"""

from __future__ import annotations

from tritonforge_generator.errors import TritonforgeError


class LoadError(TritonforgeError):
    """The campaign could not be run to its end, or its outputs could not be written."""

    exit_code = 1
