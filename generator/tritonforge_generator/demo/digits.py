"""The shipped model and the images it has never seen."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

DATA_DIR = Path(str(files("tritonforge_generator.demo") / "data"))
"""Where the package keeps the model; ``train`` writes here unless it is told otherwise."""

MODEL_NAME = "digits.onnx"
TEST_NAME = "digits_test.npz"
CARD_NAME = "digits.json"


@dataclass(frozen=True, slots=True)
class DigitsTest:
    """Images that were held out of training, in the order of scikit-learn's split.

    Attributes:
        images: float32, shape ``(360, 1, 8, 8)``: raw pixel values from 0 to 16.
        labels: int64, shape ``(360,)``: the digit, 0 to 9.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def accuracy(self, logits: npt.NDArray[Any]) -> float:
        """Return the share of images whose largest logit is their label.

        Args:
            logits: Any float dtype, shape ``(360, 10)``: one row per image, in the order of :attr:`images`.

        Raises:
            ValueError: The rows are not one per image.
        """
        expected = (len(self.labels), 10)
        if logits.shape != expected:
            raise ValueError(f"expected logits of shape {expected}, one row per test image, got {logits.shape}")
        return float(np.mean(logits.argmax(axis=1) == self.labels))


def digits_model_path() -> Path:
    """Return the path of the shipped ONNX model: ``images`` FP32 [batch, 1, 8, 8] to ``logits`` FP32 [batch, 10]."""
    return DATA_DIR / MODEL_NAME


def digits_test_split() -> DigitsTest:
    """Read the shipped test split."""
    with np.load(DATA_DIR / TEST_NAME, allow_pickle=False) as archive:
        return DigitsTest(images=archive["images"], labels=archive["labels"])
