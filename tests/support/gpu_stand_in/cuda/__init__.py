"""Stand-in for the package ``cuda`` of cuda-python: only ``bindings.runtime``."""
