"""What a plan takes and gives, asked of TensorRT in a process of its own.

A damaged plan can end the process that loads it, and plans of others are loaded here: code that a plan brings is not
run.

python -m tritonforge_generator.plan.interface PLAN
"""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tritonforge_generator.children import end_with_parent, import_path
from tritonforge_generator.environment import inherited
from tritonforge_generator.errors import TritonforgeError

_LOAD_TIMEOUT_S: Final = 120.0


def interface_from_path(path: Path) -> Mapping[str, Any] | None:
    """Load a plan and read its interface.

    Args:
        path: The plan.

    Returns:
        ``{"tensors": [...], "profiles": [...]}`` as ``Plan.to_json`` has them; each tensor also says whether it
        ``is_shape_tensor`` and ``is_linear``, and shape tensors are not in the profiles. ``None`` where TensorRT or a
        GPU is missing, or when this TensorRT does not load the plan.
    """
    if importlib.util.find_spec("tensorrt") is None:
        return None
    command = [sys.executable, "-m", "tritonforge_generator.plan.interface", str(path.absolute())]
    environment = {**inherited(), "PYTHONPATH": import_path()}
    try:
        done = subprocess.run(command, capture_output=True, check=True, env=environment, timeout=_LOAD_TIMEOUT_S)
        found: Mapping[str, Any] = json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None
    return found


def _read(path: Path) -> dict[str, Any] | None:
    from tritonforge_generator.plan import tensorrt_api
    from tritonforge_generator.plan.availability import require_tensorrt
    from tritonforge_generator.plan.cuda import call

    call("cudaSetDevice", require_tensorrt().device_id)
    log = tensorrt_api.logger(lambda *_: None)
    # The runtime must outlive the engine.
    engine, runtime = tensorrt_api.engine_from_path(path, log, host_code=False)
    if engine is None:
        return None
    tensors = [_tensor(engine, engine.get_tensor_name(index)) for index in range(engine.num_io_tensors)]
    ranged = [tensor["name"] for tensor in tensors if tensor["is_input"] and not tensor["is_shape_tensor"]]
    profiles = []
    for index in range(engine.num_optimization_profiles):
        shapes = {name: [list(shape) for shape in engine.get_tensor_profile_shape(name, index)] for name in ranged}
        profiles.append({name: {"min": low, "opt": best, "max": high} for name, (low, best, high) in shapes.items()})
    del engine, runtime
    return {"tensors": tensors, "profiles": profiles}


def _tensor(engine: Any, name: str) -> dict[str, Any]:
    from tritonforge_generator.plan import tensorrt_api

    trt = tensorrt_api.tensorrt()
    return {
        "name": name,
        "is_input": engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
        "datatype": tensorrt_api.DATATYPES.get(engine.get_tensor_dtype(name).name, "INVALID"),
        "shape": list(engine.get_tensor_shape(name)),
        "is_shape_tensor": bool(engine.is_shape_inference_io(name)),
        "is_linear": engine.get_tensor_format(name) == trt.TensorFormat.LINEAR,
    }


def main(path: Path) -> int:
    """Print the interface of a plan as JSON.

    Returns:
        0, or 1 when it cannot be loaded here.
    """
    try:
        found = _read(path)
    except (TritonforgeError, OSError):
        return 1
    if found is None:
        return 1
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    end_with_parent(signal.SIGKILL)
    sys.exit(main(Path(sys.argv[1])))
