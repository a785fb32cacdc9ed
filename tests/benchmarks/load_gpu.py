"""What ResNet-50 on one GPU gives under load: plays ``load_tests/campaigns/resnet50.yaml`` against a server of its own.

    python tests/benchmarks/load_gpu.py --network resnet50.onnx --out OUT
    python tests/benchmarks/load_gpu.py --out OUT --earlier --markdown docs/load-testing.md
    python tests/benchmarks/load_gpu.py --platform onnxruntime --small --out OUT

The first makes an FP16 plan that takes uint8 pixels, as ``served_throughput.py`` does, serves it, and writes all
outputs of the campaign into ``OUT``; with ``--repository`` the models are kept there, or taken from there. The second
plays nothing: it makes the tables of what an earlier one wrote, and puts one between the marks of a page. The third is
the same on two cores without a GPU in half a minute: a tiny network, short phases, low rates, no gates. The exit code
is the campaign's; Ctrl-C ends it in order, and what was measured until then is written. ``export_networks.py`` makes
the network.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, this folder is no package yet

from benchmarks.served_throughput import config_of, instances_of, pixels_model, plan_options, publish
from support.marks import write_between_marks
from support.networks import residual_network

from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.report.figures import count, milliseconds, significant
from tritonforge_generator.spec import InstanceGroup
from tritonforge_load.campaign import Campaign, ClosedPhase, Phase, RatePhase, SearchPhase, read_campaign
from tritonforge_load.judge.figures import figure_of
from tritonforge_load.measure import CampaignResult, RunResult, read_result
from tritonforge_load.report import view
from tritonforge_load.report.knee import curves_from_result
from tritonforge_load.report.phase_plots import knee_words
from tritonforge_load.report.progress import Progress
from tritonforge_load.report.table import text_from_result
from tritonforge_load.runner import run_campaign

CAMPAIGN: Final = Path(__file__).parents[2] / "load_tests" / "campaigns" / "resnet50.yaml"
HOST_FILE: Final = "host.json"
MARK: Final = "gpu"
MODEL: Final = "resnet50_pixels"
SMALL: Final = 50
"""How many times lower the rates of ``--small`` are."""


def main() -> int:
    """Play the campaign or take an earlier one, show it, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the outputs")
    parser.add_argument("--earlier", action="store_true", help="play nothing: take what an earlier run wrote into OUT")
    parser.add_argument("--repository", type=Path, help="models; made when it is missing (default: made and removed)")
    parser.add_argument("--network", type=Path, help="resnet50.onnx of export_networks.py")
    parser.add_argument("--platform", choices=["tensorrt", "onnxruntime"], default="tensorrt")
    parser.add_argument("--instances", type=int, default=2, help="of a model that is made (default: %(default)s)")
    parser.add_argument("--timing-cache", type=Path, help="of TensorRT's builder")
    parser.add_argument("--small", action="store_true", help="a tiny network, short phases, low rates, no gates")
    parser.add_argument("--markdown", type=Path, help="page that gets a table between its marks")
    arguments = parser.parse_args()
    if not arguments.earlier:
        play(arguments)
    result = read_result(arguments.out / f"{CAMPAIGN.stem}.json")
    host = Host(**json.loads((arguments.out / HOST_FILE).read_text(encoding="utf-8")))
    print(text_from_result(result))
    text = document_from_result(result, read_campaign(CAMPAIGN), host)
    print(f"\n{text}")
    if arguments.markdown is not None:
        write_between_marks(arguments.markdown, MARK, text)
    return result.exit_code


# ---- playing ----


@dataclass(frozen=True)
class Host:
    """What the campaign was played on.

    Attributes:
        gpu: Name of the GPU and version of its driver; empty without one.
        cpus: CPUs of the machine.
        platform: What runs the model, in the words of its configuration.
        instances: How many of the model.
    """

    gpu: str
    cpus: int
    platform: str
    instances: int


def play(arguments: argparse.Namespace) -> None:
    """Serve the model and play the campaign."""
    campaign = read_campaign(CAMPAIGN)
    settings = settings_for_two_cores(campaign) if arguments.small else {}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = arguments.repository or scratch / "models"
        if not repository.exists():
            publish(repository, model_to_make(arguments, scratch))
        arguments.out.mkdir(parents=True, exist_ok=True)
        config = config_of(repository, MODEL)
        host = Host(gpu_words(), os.cpu_count() or 1, config.platform or config.backend, instances_of(config))
        (arguments.out / HOST_FILE).write_text(json.dumps(asdict(host), indent=1), encoding="utf-8")
        server = stack.enter_context(
            EmbeddedTriton(repository, model_control_mode="explicit", load_models=[MODEL], ready_timeout_s=120)
        )
        url = server.http_url if campaign.target.url.startswith("http:") else server.grpc_url
        settings["target"] = {"url": url, "metrics": server.metrics_url}
        progress = stack.enter_context(Progress())
        run_campaign(CAMPAIGN, settings=settings, out=arguments.out, on_event=progress.on_event)


def model_to_make(arguments: argparse.Namespace, scratch: Path) -> Any:
    """What the generator is to make."""
    network = residual_network(scratch / "network.onnx") if arguments.small else arguments.network
    if network is None:
        raise SystemExit("--network: expected the network that the model is made of")
    if arguments.platform == "tensorrt":
        return pixels_model(network, **plan_options(arguments.instances, arguments.timing_cache))
    on_cpu = (InstanceGroup(kind="KIND_CPU", count=arguments.instances),)
    return pixels_model(network, platform="onnxruntime", instance_group=on_cpu)


def gpu_words() -> str:
    """Name of the GPU and version of its driver; empty without one."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return run.stdout.splitlines()[0].replace(", ", ", driver ") if run.returncode == 0 and run.stdout else ""


def settings_for_two_cores(campaign: Campaign) -> dict[str, Any]:
    """What makes the campaign fit two cores and half a minute; its gates are for a GPU."""
    return {"workers": 2, "phases": {phase.name: _short(phase) for phase in campaign.phases}, "gates": []}


def _short(phase: Phase) -> dict[str, Any]:
    if isinstance(phase, ClosedPhase):
        return {"users": min(phase.users, 8), "for": "1s"}
    if isinstance(phase, RatePhase):
        return {"rate": f"{phase.rate_per_s / SMALL:g}/s", "for": "1s"}
    if isinstance(phase, SearchPhase):
        rates = {"from": f"{phase.search.from_ / SMALL:g}/s", "to": f"{phase.search.to / SMALL:g}/s"}
        return {"search": {**rates, "precision": "50%", "step_for": "1s"}}
    raise TypeError(f"{phase.name}: no rule how to shorten {type(phase).__name__}")


# ---- the table ----


def document_from_result(result: CampaignResult, campaign: Campaign, host: Host) -> str:
    """The table of a page: a line a run, then what the search found, the knee, and what is to be known of the figures.

    Args:
        result: What was measured.
        campaign: What was played.
        host: Where.
    """
    runs = [run for phase in result.phases for run in phase.judged_runs]
    missing: dict[str, None] = {}
    lines = [
        introduction(result, runs, host),
        "",
        "| run | load | requests/s | p50, ms | p99, ms | rows a batch | queue's share | GPU busy | validity |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *(line_of(run, result, campaign, missing) for run in runs),
        "",
    ]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in sentences(result, missing))])


def introduction(result: CampaignResult, runs: list[RunResult], host: Host) -> str:
    """What was measured where."""
    protocol = result.target.partition("://")[0]
    workers = max((run.generator.workers for run in runs), default=0)
    instances = f"{host.instances} instance{'s' if host.instances != 1 else ''}"
    return (
        f"`{CAMPAIGN.name}` on `{MODEL}` ({host.platform}, {instances}, {host.gpu or 'no GPU'}), an image a request "
        f"over {protocol.upper()} from {workers} workers on the server's own machine ({host.cpus} CPUs), "
        f"{result.started_at[:10]}. Latencies count from the moment at which a request was due; batches and the "
        "queue's share of a request's time in the server are the server's own figures."
    )


def line_of(run: RunResult, result: CampaignResult, campaign: Campaign, missing: dict[str, None]) -> str:
    """One run; what was not observed is added to ``missing`` with the reason."""

    def observed(metric: str, text_from_value: Callable[[float], str]) -> str:
        figure = figure_of(metric, None, [run], campaign, result.timeline)
        if figure.value is not None:
            return text_from_value(figure.value)
        missing[f"{OBSERVED[metric]}: {figure.absent}"] = None
        return "not known"

    row = run.total
    latencies = (milliseconds(view.told_ms(row, share)) for share in (50.0, 99.0))
    cells = [
        run.run,
        view.load_words(run),
        count(row.rate_per_s),
        *latencies,
        observed("batch_mean", significant),
        observed("queue_share", "{:.0%}".format),
        observed("gpu_utilization", "{:.0%}".format),
        "INVALID" if run.invalid else "valid",
    ]
    return f"| {' | '.join(cells)} |"


OBSERVED: Final[Mapping[str, str]] = {
    "batch_mean": "rows a batch",
    "queue_share": "queue's share",
    "gpu_utilization": "GPU busy",
}


def sentences(result: CampaignResult, missing: Mapping[str, None]) -> Iterator[str]:
    """What the figures do not tell by themselves."""
    for phase in result.phases:
        if phase.search is not None:
            yield f"`{phase.name}`: {view.found_words(phase)}."
    for curve in curves_from_result(result):
        yield knee_words(curve)
    for what in missing:
        yield f"Not known: {what}."
    if result.gates:
        yield f"Gates: {sum(gate.passed for gate in result.gates)} of {len(result.gates)} passed."
    for failure in view.failures_of(result):
        yield f"{failure}."


if __name__ == "__main__":
    sys.exit(main())
