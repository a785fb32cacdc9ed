"""Third stage: the number types that a graph computes in, written into the graph itself, on any CPU."""

from tritonforge_generator.precision.accuracy import LIMITS, Accuracy, OutputAccuracy, accuracy
from tritonforge_generator.precision.calibration import Calibration, calibration_from_text
from tritonforge_generator.precision.half import KeptNode
from tritonforge_generator.precision.repair import Evaluate, Repair, culprits, repaired
from tritonforge_generator.precision.typed_graph import PrecisionStage, TypedGraph

__all__ = [
    "LIMITS",
    "Accuracy",
    "Calibration",
    "Evaluate",
    "KeptNode",
    "OutputAccuracy",
    "PrecisionStage",
    "Repair",
    "TypedGraph",
    "accuracy",
    "calibration_from_text",
    "culprits",
    "repaired",
]
