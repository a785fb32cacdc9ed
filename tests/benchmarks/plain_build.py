"""Builds an FP16 plan as a plain ``trtexec --fp16`` does: builder flags on the FP32 graph, nothing else.

    python plain_build.py MODEL.onnx PLAN INPUT MIN OPT MAX

Shapes are written ``1x3x224x224``. Prints the build's seconds. Needs TensorRT 8.6 or 10; 11 has no builder flags.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import tensorrt as trt  # pyright: ignore[reportMissingImports]  # only where plans are built


def build(model: str, plan: str, name: str, shapes: list[tuple[int, ...]]) -> float:
    """Build the plan; returns the builder's seconds."""
    logger = trt.Logger(trt.Logger.ERROR)
    trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    flags = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if flags is None else 1 << int(flags))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(model):
        raise SystemExit(str(parser.get_error(0)))
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.FP16)
    sources = trt.TacticSource
    config.set_tactic_sources(1 << int(sources.EDGE_MASK_CONVOLUTIONS) | 1 << int(sources.JIT_CONVOLUTIONS))
    profile = builder.create_optimization_profile()
    profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    start = time.perf_counter()
    serialized = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - start
    if serialized is None:
        raise SystemExit("no plan")
    Path(plan).write_bytes(serialized)
    return seconds


if __name__ == "__main__":
    model_path, plan_path, input_name, *texts = sys.argv[1:]
    sizes = [tuple(int(size) for size in text.split("x")) for text in texts]
    print(build(model_path, plan_path, input_name, sizes))
