"""The demo: everything this tool does, once, on this machine."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_client import Client
from tritonforge_client.codegen import modules_from_repository
from tritonforge_generator.demo.digits import DATA_DIR, DigitsTest, digits_model_path, digits_test_split
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import VerificationError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_file

if TYPE_CHECKING:
    from tritonforge_load.measure import CampaignResult

SPEC_PATH: Final = DATA_DIR / "tritonforge.yaml"
LEAST_ACCURACY: Final = 0.96
"""Below this share of right answers the demo fails."""

_PROTOCOLS: Final = {"grpc": "gRPC", "http": "HTTP"}


@dataclass(slots=True)
class DemoResult:
    """What came of the demo.

    Attributes:
        generated: The published model.
        accuracy: Share of right answers by who was asked, ONNX Runtime first.
        images: Number of test images.
        load: The load test.
        stage_s: Seconds spent in each step, in order.
        client_module: The generated typed client.
        report_path: The HTML report.
    """

    generated: Generated
    accuracy: dict[str, float]
    images: int
    load: CampaignResult
    stage_s: dict[str, float]
    client_module: Path
    report_path: Path

    @property
    def passed(self) -> bool:
        """Whether the served model is as good as the reference and the load test's gates hold."""
        reference, *served = self.accuracy.values()
        return reference >= LEAST_ACCURACY and all(share == reference for share in served) and self.load.passed

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        from tritonforge_load.measure import dict_from_result

        return {
            "passed": self.passed,
            "model": self.generated.version.folder.name,
            "version": self.generated.version.version,
            "accuracy": self.accuracy,
            "images": self.images,
            "verification": self.generated.verification.to_json(),
            "load": dict_from_result(self.load),
            "stage_s": {name: round(seconds, 3) for name, seconds in self.stage_s.items()},
            "client_module": str(self.client_module),
            "report": str(self.report_path),
        }


@dataclass(slots=True)
class _Clock:
    on_step: Callable[[str], None]
    stage_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.on_step(name)
        start = time.perf_counter()
        yield
        self.stage_s[name] = self.stage_s.get(name, 0.0) + time.perf_counter() - start


def run_demo(
    out: Path, *, on_step: Callable[[str], None] = lambda _: None, on_line: Callable[[str], None] = lambda _: None
) -> DemoResult:
    """Generate, verify, publish, serve, call, load-test and report the shipped digits model.

    Args:
        out: Folder for everything that is made; created when missing.
        on_step: Told when a step begins.
        on_line: Told each line of the load test.

    Returns:
        The result; ``passed`` is the verdict.

    Raises:
        TritonforgeError: A step was refused or failed.
    """
    from tritonforge_load.runner import run_campaign

    clock = _Clock(on_step)
    out.mkdir(parents=True, exist_ok=True)
    with clock.step("generate and verify"):
        (generated,) = generate(_spec(out))
    with clock.step("write the typed client"):
        (client_module,) = modules_from_repository(out / "model_repository", out / "clients")
    test = digits_test_split()
    with clock.step("start the server"):
        server = EmbeddedTriton(out / "model_repository").start()
    try:
        with clock.step("classify the test images"):
            accuracy = _accuracies(test, client_module, [server.grpc_url, server.http_url])
        with clock.step("load test"):
            target = {"url": server.grpc_url, "metrics": server.metrics_url}
            load = run_campaign(
                _campaign_path(), settings={"target": target}, out=out / "load", on_event=_lines_to(on_line)
            )
    finally:
        server.stop()
    result = DemoResult(
        generated=generated,
        accuracy=accuracy,
        images=len(test.labels),
        load=load,
        stage_s=clock.stage_s,
        client_module=client_module,
        report_path=out / "report.html",
    )
    with clock.step("write the report"):
        from tritonforge_generator.demo.page import write_page

        write_page(result)
    return result


def _spec(out: Path) -> ForgeSpec:
    return forge_spec_from_file(SPEC_PATH).model_copy(update={"repository": out / "model_repository"})


def _lines_to(on_line: Callable[[str], None]) -> Callable[[Mapping[str, Any]], None]:
    from tritonforge_load.events import text_from_event

    def on_event(event: Mapping[str, Any]) -> None:
        text = text_from_event(event)
        if text is not None:
            on_line(text)

    return on_event


def _campaign_path() -> Path:
    """The digits campaign: packed into a wheel, beside the package in a checkout."""
    import tritonforge_load

    package = Path(str(tritonforge_load.__file__)).parent
    packed = package / "campaigns"
    return (packed if packed.is_dir() else package.parent / "campaigns") / "digits.yaml"


def _accuracies(test: DigitsTest, client_module: Path, targets: list[str]) -> dict[str, float]:
    reference = OnnxSession(digits_model_path()).run({"images": test.images})["logits"]
    accuracy = {"ONNX Runtime": test.accuracy(reference)}
    module = _module_from_path(client_module)
    for target in targets:
        with Client(target) as client:
            accuracy[f"Triton over {_PROTOCOLS[target.partition(':')[0]]}"] = test.accuracy(
                _logits(module, client, test.images)
            )
    return accuracy


def _logits(module: ModuleType, client: Client, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    model = module.Digits(client)
    size = model.spec.max_batch_size
    return np.concatenate(
        [model.infer(images=images[start : start + size]).logits for start in range(0, len(images), size)]
    )


def _module_from_path(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tritonforge_demo_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise VerificationError(f"{path} cannot be imported", expected="a Python module", got="none")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
