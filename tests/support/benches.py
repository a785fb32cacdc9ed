"""A comparison with every field filled, as of a machine with a GPU."""

from __future__ import annotations

from tritonforge_generator.report import Bench, BenchEntry, BenchRow, GpuUse, Latency, LeftOut

GPU = GpuUse(
    sm_clock_mhz=1980.0,
    max_sm_clock_mhz=1980.0,
    power_w=412.5,
    temperature_c=48.0,
    memory_bytes=734 << 20,
    memory_before_bytes=0,
    name="NVIDIA H200",
    driver="580.1",
)


def latency(p50_ms: float) -> Latency:
    return Latency(p50_ms=p50_ms, p90_ms=p50_ms * 1.1, p99_ms=p50_ms * 1.4, runs=500)


def entry(runtime: str, label: str, precision: str, one_ms: float, *, error: float, gpu: GpuUse | None) -> BenchEntry:
    """An entry whose calls of 64 rows take ten times as long as those of one."""
    rows = [
        BenchRow(
            batch_size=size,
            compute=latency(time_ms),
            total=latency(time_ms * 1.5),
            speedup=4.0 / one_ms,
            total_speedup=3.0 / one_ms,
            relative_error=error,
            steady=True,
            gpu=gpu,
        )
        for size, time_ms in ((1, one_ms), (64, one_ms * 10))
    ]
    return BenchEntry(
        runtime=runtime,
        label=label,
        precision=precision,
        rows=tuple(rows),
        relative_error=error,
        top1=0.975,
        finite=True,
        accurate=error < 0.05,
        correct_share=0.9625,
        pass_ms=one_ms * 60,
        on_gpu=gpu is not None,
        version=f"{label} 1.2.3, Python 3.11.7, numpy 2.0.0",
        plan={"size_bytes": 48 << 20, "build_s": 71.5} if runtime == "tensorrt" else None,
    )


def full_bench() -> Bench:
    return Bench(
        model="resnet.onnx",
        samples="40 from samples.npz",
        labelled=40,
        reference_correct_share=0.975,
        baseline="ONNX Runtime CPU FP32",
        drift=1.002,
        entries=(
            entry("onnxruntime-cpu", "ONNX Runtime CPU", "FP32", 4.0, error=0.0, gpu=None),
            entry("onnxruntime-cuda", "ONNX Runtime CUDA", "TF32", 1.0, error=3e-4, gpu=GPU),
            entry("pytorch", "PyTorch", "FP16", 0.8, error=6e-4, gpu=GPU),
            entry("tensorrt", "TensorRT", "FP16", 0.4, error=7e-4, gpu=GPU),
            entry("tensorrt", "TensorRT", "INT8", 0.3, error=0.12, gpu=GPU),
        ),
        left_out=(LeftOut(name="PyTorch compiled", reason="torch is not installed", action="Run: pip install torch."),),
        notes=("Ranges for INT8 and FP8 come from drawn samples; give real ones with --calibration.",),
    )
