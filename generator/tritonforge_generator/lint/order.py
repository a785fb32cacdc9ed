"""The order in which the server checks, so that the first finding is the one that it reports.

A block is a group of checks that the server makes item by item: all checks of the first item, then of the second.
Source: section by section the server's ``ModelRepositoryManager``, ``ValidateModelConfig``, ``ModelLifeCycle``,
``TritonModel::Create``, the ONNX Runtime back-end and ``ValidateEnsembleConfig``.
"""

from __future__ import annotations

from typing import Final

Blocks = tuple[tuple[str, ...], ...]

_PARSING: Final[Blocks] = (("P1", "P2"),)
_CONFIG: Final[Blocks] = (
    ("A1",),
    ("C1", "C2"),
    ("C3",),
    ("C4",),
    ("C5", "C6"),
    ("C7",),
    ("C8",),
    ("C9",),
    ("C10",),
    ("C11",),
    ("S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9"),
    ("S10",),
    ("S11", "S12"),
    ("S13",),
    ("E1",),
    ("E2",),
    ("E3",),
    ("E4",),
    ("E5",),
    ("E6", "E7", "E8", "E9"),
    ("E10",),
    ("E11", "E12", "E13"),
    ("E14",),
    ("C13",),
    ("C12",),
    ("C15", "C16", "C17", "C18"),
)
_TENSORS: Final[Blocks] = (
    ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12"),
    ("B1", "B2", "B4", "B3", "B5", "B6"),
)
_REPOSITORY: Final[Blocks] = (("R1",), ("X1",), ("X2",), ("V1", "V2"), ("V3",), ("V4",))
_INSTANCE_GROUPS: Final[Blocks] = (("G2", "G7", "G9", "G11", "G12", "G10"),)
_ONNX_SETTINGS: Final[Blocks] = (("N1", "N2", "N3", "O4"),)
_ONNX_FILE: Final[Blocks] = (("O1",), ("O5", "O6", "O7", "O8", "O9"), ("D2", "D1"))
_ONNX_COMPLETION: Final[Blocks] = (("O2",),)
_LABELS: Final[Blocks] = (("M1", "M2"),)
_ONNX_TENSORS: Final[Blocks] = (
    ("O11", "O12", "O13"),
    ("O23",),
    ("O10",),
    ("O14", "I13", "I14", "O16", "O17", "O18", "O19", "O20", "O21", "O22"),
)
_RUNNING: Final[Blocks] = (
    ("W1", "W2", "W3", "W5"),
    ("S14", "S15", "S16", "S17", "S18", "S19", "S20", "S21", "S22"),
    ("S23",),
    ("S25",),
    ("S26",),
    ("X6", "X7", "X8", "X10", "X12", "X13"),
    ("L1", "L2", "L4", "L5", "L6", "L7", "L8", "L9", "L10", "L11", "L12", "L14", "L15", "L17", "L18"),
)


def server_order(*, strict: bool, completes_onnx: bool) -> Blocks:
    """Return the blocks in the order in which the server comes to them.

    Args:
        strict: With completion off, inputs and outputs are checked as soon as the config has been read.
        completes_onnx: The ONNX Runtime back-end opens the file before inputs and outputs are checked, to complete
            them; otherwise only afterwards.
    """
    tensors_early, tensors_late = (_TENSORS, ()) if strict else ((), _TENSORS)
    early, late = (_ONNX_FILE + _ONNX_COMPLETION, ()) if completes_onnx else ((), _ONNX_FILE + _ONNX_COMPLETION)
    return (
        *_PARSING,
        *_CONFIG,
        *tensors_early,
        *_REPOSITORY,
        *_INSTANCE_GROUPS,
        *_ONNX_SETTINGS,
        *early,
        *tensors_late,
        *_LABELS,
        *late,
        *_ONNX_TENSORS,
        *_RUNNING,
    )
