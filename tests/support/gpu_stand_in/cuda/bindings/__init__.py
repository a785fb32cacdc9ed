"""Stand-in for the package ``cuda.bindings`` of cuda-python: only ``runtime``."""
