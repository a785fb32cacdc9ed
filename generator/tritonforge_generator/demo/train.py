"""Train the demo's model: ``python -m tritonforge_generator.demo.train``.

::

    scikit-learn's digits ──▶ split ──▶ train ──▶ export ──▶ check against torch ──▶ write
       1797 real images     1437 + 360   torch      ONNX        ONNX Runtime         three files

The same machine, seed and package versions give the same bytes. Nothing is written before the check has passed.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

from tritonforge_client.extras import require_extra
from tritonforge_generator.demo.digits import CARD_NAME, DATA_DIR, MODEL_NAME, TEST_NAME, DigitsTest
from tritonforge_generator.errors import VerificationError

if TYPE_CHECKING:
    import onnx

SPLIT_SEED = 0  # fixed apart from --seed: every trained model is judged on the same images
TEST_IMAGES = 360  # 20 % of 1797
BATCH_SIZE = 64
OPSET = 17  # the newest that TensorRT 8.6 reads
IR_VERSION = 8  # the one that came with opset 17, so that a runtime which knows the opset knows the file
LOGITS_TOLERANCE = 1e-4  # float32 against float32, with other summation orders


@dataclass(frozen=True, slots=True)
class TrainSplit:
    """Images to learn from.

    Attributes:
        images: float32, shape ``(1437, 1, 8, 8)``: raw pixel values from 0 to 16.
        labels: int64, shape ``(1437,)``.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def load_splits() -> tuple[TrainSplit, DigitsTest]:
    """Split scikit-learn's digits in two, with the same share of each digit in both parts.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    datasets = require_extra("sklearn.datasets", "sklearn")
    selection = require_extra("sklearn.model_selection", "sklearn")
    digits = datasets.load_digits()
    train_images, test_images, train_labels, test_labels = selection.train_test_split(
        digits.images.astype(np.float32)[:, np.newaxis],
        digits.target.astype(np.int64),
        test_size=TEST_IMAGES,
        stratify=digits.target,
        random_state=SPLIT_SEED,
    )
    return TrainSplit(train_images, train_labels), DigitsTest(test_images, test_labels)


def train_network(split: TrainSplit, *, epochs: int, seed: int) -> Any:
    """Train the network on one CPU thread, whose sums always run in the same order.

    Args:
        split: Images to learn from.
        epochs: Passes over them.
        seed: Seed of the weights, the order of the images and the dropout.

    Returns:
        The ``torch.nn.Sequential`` in evaluation mode.

    Raises:
        MissingExtraError: torch is not installed.
    """
    torch = require_extra("torch", "torch")
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    network = _new_network()
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    steps_per_epoch = -(-len(labels) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=5e-3, epochs=epochs, steps_per_epoch=steps_per_epoch
    )
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(BATCH_SIZE):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _new_network() -> Any:
    nn = require_extra("torch.nn", "torch")

    def convolution(channels_in: int, channels_out: int) -> Any:
        return nn.Sequential(
            nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
        )

    layers = {
        "scale": nn.BatchNorm2d(1),  # learns the range of the pixels, so that clients send them raw
        "conv1": convolution(1, 32),
        "conv2": convolution(32, 32),
        "pool2": nn.MaxPool2d(2),  # 8x8 to 4x4
        "conv3": convolution(32, 64),
        "pool3": nn.MaxPool2d(2),  # 4x4 to 2x2
        "flatten": nn.Flatten(),
        "dropout": nn.Dropout(0.3),
        "digits": nn.Linear(64 * 2 * 2, 10),
    }
    return nn.Sequential(OrderedDict(layers))


def onnx_from_network(network: Any) -> onnx.ModelProto:
    """Export the network with a symbolic batch axis, in an opset that old runtimes read.

    Args:
        network: The trained ``torch.nn.Sequential`` in evaluation mode.

    Raises:
        MissingExtraError: torch or its ONNX exporter is not installed.
    """
    torch = require_extra("torch", "torch")
    require_extra("onnxscript", "torch")
    checker = require_extra("onnx.checker", "generator")
    version_converter = require_extra("onnx.version_converter", "generator")

    exported = torch.onnx.export(
        network,
        (torch.zeros(2, 1, 8, 8),),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=18,  # the oldest that the exporter writes
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    model: onnx.ModelProto = version_converter.convert_version(exported.model_proto, OPSET)
    model.ir_version = IR_VERSION
    model.graph.name = "digits"
    _strip_traces(model)
    model.doc_string = "Handwritten digits: raw 8x8 pixels (0 to 16) to one logit per digit."
    checker.check_model(model, full_check=True)
    return model


def _strip_traces(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes about its own sources: paths of this machine, which differ on the next."""
    graph = model.graph
    tensors = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    parts: tuple[Any, ...] = (model, graph, *graph.node, *tensors)
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]


def check_export(model: onnx.ModelProto, network: Any, test: DigitsTest) -> tuple[npt.NDArray[np.float32], float]:
    """Compare ONNX Runtime with torch on the test images, in several batch sizes.

    Args:
        model: The exported model.
        network: The network it came from.
        test: Images to compare on.

    Returns:
        ONNX Runtime's logits of all test images, float32 of shape ``(360, 10)``, and the largest absolute difference.

    Raises:
        VerificationError: They differ by more than rounding.
    """
    torch = require_extra("torch", "torch")
    onnxruntime = require_extra("onnxruntime", "generator")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = network(torch.from_numpy(test.images)).numpy()
    largest = 0.0
    logits = expected
    for batch_size in (1, 2, 7, len(test.labels)):
        (logits,) = session.run(["logits"], {"images": test.images[:batch_size]})
        largest = max(largest, float(np.abs(logits - expected[:batch_size]).max()))
    if not largest <= LOGITS_TOLERANCE:
        raise VerificationError(
            "the exported model answers otherwise than torch",
            expected=f"logits within {LOGITS_TOLERANCE}",
            got=f"a difference of {largest}",
            action="Nothing was written; try other versions of torch and onnxscript.",
        )
    return logits, largest


def _npz_bytes(split: DigitsTest) -> bytes:
    """Pack the split as ``numpy.savez_compressed`` does, with timestamps that do not change."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in (("images", split.images), ("labels", split.labels)):
            member = io.BytesIO()
            np.save(member, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, member.getvalue(), compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
    return buffer.getvalue()


def train_digits(out: Path, *, epochs: int, seed: int) -> dict[str, Any]:
    """Train, export, check, and write ``digits.onnx``, ``digits_test.npz`` and ``digits.json``.

    Args:
        out: Folder to write to; made if missing.
        epochs: Passes over the training images.
        seed: Seed of the training.

    Returns:
        What ``digits.json`` says.

    Raises:
        MissingExtraError: torch, its ONNX exporter or scikit-learn is not installed.
        VerificationError: The exported model answers otherwise than torch; nothing was written.
    """
    train, test = load_splits()
    network = train_network(train, epochs=epochs, seed=seed)
    model = onnx_from_network(network)
    logits, difference = check_export(model, network, test)
    card: dict[str, Any] = {
        "test_accuracy": test.accuracy(logits),
        "test_images": len(test.labels),
        "train_images": len(train.labels),
        "epochs": epochs,
        "seed": seed,
        "max_abs_difference_to_torch": difference,
        "versions": {name: require_extra(name, "torch").__version__ for name in ("torch", "onnx", "onnxruntime")},
    }
    for key in ("test_accuracy", "epochs", "seed"):
        model.metadata_props.add(key=key, value=str(card[key]))
    out.mkdir(parents=True, exist_ok=True)
    (out / MODEL_NAME).write_bytes(model.SerializeToString(deterministic=True))
    (out / TEST_NAME).write_bytes(_npz_bytes(test))
    (out / CARD_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


@click.command(help="Train the demo's digits model and export it to ONNX.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA_DIR,
    help="Folder to write to.  [default: the package's own data folder]",
)
@click.option("--epochs", type=click.IntRange(min=1), default=30, show_default=True, help="Passes over the images.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the training.")
def main(out: Path, epochs: int, seed: int) -> None:
    """Run the command line."""
    try:
        card = train_digits(out, epochs=epochs, seed=seed)
    except (ImportError, VerificationError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"test accuracy {card['test_accuracy']:.4f} on {card['test_images']} images")
    click.echo(f"wrote {out / MODEL_NAME}, {TEST_NAME}, {CARD_NAME}")


if __name__ == "__main__":
    main()
