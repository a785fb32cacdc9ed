"""The order in which the server checks, so that the first finding is the one that it reports.

A block is a group of checks that the server makes item by item: all checks of the first item, then of the second.
Source: section by section the server's ``ModelRepositoryManager``, ``ValidateModelConfig``, ``ModelLifeCycle``,
``TritonModel::Create``, the ONNX Runtime back-end and ``ValidateEnsembleConfig``.
"""

from __future__ import annotations

from typing import Final

Blocks = tuple[tuple[str, ...], ...]

_PARSING: Final[Blocks] = (("R2",), ("P1", "P2"), ("P3",))
_CONFIG: Final[Blocks] = (
    ("W9",),
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
    ("C14",),
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
    ("C19",),
    ("C15", "C16", "C17", "C18"),
)
_TENSORS: Final[Blocks] = (
    ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12"),
    ("B1", "B2", "B4", "B3", "B5", "B6"),
)
_REPOSITORY: Final[Blocks] = (
    ("R1",),
    ("X1",),
    ("X2",),
    ("X3", "X4", "X5"),
    ("X6", "X7", "X8", "X10", "X12", "X13"),
    ("X14",),
    ("V1", "V2"),
    ("V3",),
    ("V4",),
)
_LIBRARIES: Final[Blocks] = (("M5", "M6", "M7", "M8"),)
_INSTANCE_GROUPS: Final[Blocks] = (("G2", "G3", "G4", "G6", "G7", "G9", "G11", "G12", "G10"),)
_ONNX_SETTINGS: Final[Blocks] = (("N1", "N2", "N3", "O4"),)
_ONNX_FILE: Final[Blocks] = (("O1",), ("O5", "O6", "O7", "O8", "O9"), ("D2", "D1"))
_ONNX_COMPLETION: Final[Blocks] = (("O2",),)
_LABELS: Final[Blocks] = (("M1", "M2", "M13"),)
_ONNX_TENSORS: Final[Blocks] = (
    ("O11", "O12", "O13"),
    ("O23",),
    ("O10",),
    ("O14", "I13", "I14", "T5", "O16", "O17", "O24", "O18", "O19", "O20", "O21", "O22"),
)
_PLAN_FILE: Final[Blocks] = (("T3",),)
_PLAN_COMPLETION: Final[Blocks] = (("T9",), ("T6",), ("T7",), ("T8",), ("T10", "T11"))
_PLAN_SETTINGS: Final[Blocks] = (("T12",), ("N6",), ("T13", "T14", "T15"))
_PLAN_INSTANCES: Final[Blocks] = (("T18", "T19", "T1", "T16"), ("T2",), ("T4",), ("T22", "T21"), ("T23",))
_PLAN_TENSORS: Final[Blocks] = (
    ("T24", "T25", "T26", "T27", "T28"),
    (
        *("T46", "T47", "T49", "T50", "T31", "T32", "T33", "T34", "T35", "T36", "T37", "T38", "T39", "T40", "T42"),
        *("T44", "T41", "T29", "T51", "T48", "T30"),
    ),
    ("T17",),
    ("T52", "T53", "T54", "T55", "T56", "T57", "T58"),
)
_BACKEND_SETTINGS: Final[Blocks] = (("Y1",), ("I15",))
_STRATEGY: Final[Blocks] = (("S27", "M10"),)
_METRICS: Final[Blocks] = (("C22",),)
_PYTHON_STUB: Final[Blocks] = (("Y2",), ("Y3",), ("D6",), ("Y4",), ("Y6",), ("Y5",), ("D3",), ("D4",))
_PYTHON_COMPLETION: Final[Blocks] = (("D7",), ("Y8", "Y9", "Y10", "Y11", "Y12", "Y13", "Y14", "Y15", "Y16"))
_PYTHON_INSTANCES: Final[Blocks] = (("D5",), ("Y7",), ("Y17",))
_RUNNING: Final[Blocks] = (
    ("W1", "W2", "W3", "W5"),
    ("W8", "W7"),
    ("W4",),
    ("S14", "S15", "S16", "S17", "S18", "S19", "S20", "S21", "S22"),
    ("S23",),
    ("S24",),
    ("S25",),
    ("S26",),
    (
        *("L1", "L2", "L4", "L5", "L6", "L7", "L8", "L9", "L10", "L11", "L12", "L14", "L15", "L16", "L17", "L18"),
        *("L19", "L20"),
    ),
)


def polling(*, strict: bool) -> frozenset[str]:
    """Return the rules whose breach keeps a model out of the server's repository, as if it were not there.

    Args:
        strict: See ``server_order``.
    """
    blocks = (*_PARSING, *_CONFIG, *(_TENSORS if strict else ()), ("R1",))
    return frozenset(rule_id for block in blocks for rule_id in block)


READING: Final = frozenset(rule_id for block in _PARSING for rule_id in block)
"""Rules that say why the server cannot read a model at all; it checks nothing else then."""


def server_order(*, strict: bool, completes_onnx: bool, completes_plan: bool = False) -> Blocks:
    """Return the blocks in the order in which the server comes to them.

    Args:
        strict: With completion off, inputs and outputs are checked as soon as the config has been read.
        completes_onnx: The ONNX Runtime back-end opens the file before inputs and outputs are checked, to complete
            them; otherwise only afterwards.
        completes_plan: Likewise for the TensorRT back-end.
    """
    tensors_early, tensors_late = (_TENSORS, ()) if strict else ((), _TENSORS)
    early, late = (_ONNX_FILE + _ONNX_COMPLETION, ()) if completes_onnx else ((), _ONNX_FILE + _ONNX_COMPLETION)
    # Names are looked up in the model file: the ONNX Runtime back-end does that last.
    names_early, names_late = (_ONNX_TENSORS, ()) if completes_plan else ((), _ONNX_TENSORS)
    return (
        *_PARSING,
        *_CONFIG,
        *tensors_early,
        *_REPOSITORY,
        *_LIBRARIES,
        *_INSTANCE_GROUPS,
        *_ONNX_SETTINGS,
        *_BACKEND_SETTINGS,
        *early,
        *_PLAN_FILE,
        *names_early,
        *_PLAN_COMPLETION,
        *_PLAN_SETTINGS,
        *(() if strict else _PYTHON_STUB + _PYTHON_COMPLETION),
        *tensors_late,
        *_LABELS,
        *_STRATEGY,
        *_METRICS,
        *(_PYTHON_STUB + _PYTHON_COMPLETION if strict else ()),
        *_PYTHON_INSTANCES,
        *late,
        *_PLAN_INSTANCES,
        *names_late,
        *_PLAN_TENSORS,
        *_RUNNING,
    )
