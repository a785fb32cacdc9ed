"""Exports the networks that the benchmarks measure, with samples to judge and calibrate them by.

    python tests/benchmarks/export_networks.py OUT [NAME ...]

Writes ``OUT/<name>.onnx`` (opset 17, through the product's own source stage), ``<name>.samples.npz`` and
``<name>.calibration.npz``. ResNet-18 is trained first, on scikit-learn's digits enlarged to 32 by 32, and its samples
come with labels.
"""

from __future__ import annotations

import shutil
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]  # not part of the development environment

from tritonforge_generator.source import TorchModel, source_from_torch

networks: Any = import_module("networks")  # beside this script

OPSET = 17
EPOCHS = 8
SAMPLES = 64


def digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """scikit-learn's 1,797 digits as images of (3, 32, 32), zero to one, shuffled with a fixed seed."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    large = torch.nn.functional.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    order = np.random.default_rng(0).permutation(len(large))
    return large.expand(-1, 3, -1, -1).numpy()[order].copy(), data.target[order].astype(np.int64)


def train(model: TorchModel, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    """A few epochs of SGD with a one-cycle rate; enough for 98 % on these digits."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    network = model.module.to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    batches = len(images) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=EPOCHS * batches)
    inputs, targets = torch.tensor(images, device=device), torch.tensor(labels, device=device)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images), device=device)[: batches * 64].view(batches, 64):
            loss = torch.nn.functional.cross_entropy(network(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.to("cpu").eval()


def export_resnet18(folder: Path) -> None:
    """Train, export, and keep a fifth of the digits as labelled samples."""
    model = networks.resnet18()
    images, labels = digits()
    held_out = len(images) // 5
    train(model, images[held_out:], labels[held_out:])
    networks.TRAINED["resnet18"] = model
    source = source_from_torch("torch:networks:trained_resnet18", folder, opset=OPSET)
    _moved(source.path, folder / "resnet18.onnx")
    np.savez(folder / "resnet18.samples.npz", images=images[:held_out], labels=labels[:held_out])
    np.savez(folder / "resnet18.calibration.npz", images=images[held_out : held_out + 256])


def export_drawn(name: str, folder: Path) -> None:
    """Export a network with drawn weights, and draw samples for it."""
    source = source_from_torch(f"torch:networks:{name}", folder, opset=OPSET)
    _moved(source.path, folder / f"{name}.onnx")
    example = getattr(networks, name)().inputs
    random = np.random.default_rng(1)
    for kind in ("samples", "calibration"):
        arrays = {}
        for key, tensor in example.items():
            shape = (SAMPLES, *tensor.shape[1:])
            if key == "attention_mask":
                arrays[key] = np.ones(shape, np.int64)
            elif tensor.dtype == torch.int64:
                arrays[key] = random.integers(0, 30_000, shape)
            else:
                arrays[key] = random.standard_normal(shape).astype(np.float32)
        np.savez(folder / f"{name}.{kind}.npz", **arrays)


def _moved(path: Path, target: Path) -> None:
    if path != target:
        shutil.move(path, target)


def main(folder: Path, names: list[str]) -> None:
    """Export what is named; everything by default."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ["resnet18", "resnet50", "bert_base", "gpt2"]:
        start = time.perf_counter()
        if name == "resnet18":
            export_resnet18(folder)
        else:
            export_drawn(name, folder)
        size_mb = (folder / f"{name}.onnx").stat().st_size / 1e6
        print(f"{name}: {time.perf_counter() - start:.1f} s, {size_mb:.0f} MB", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
