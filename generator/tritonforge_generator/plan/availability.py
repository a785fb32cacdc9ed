"""Whether plans can be built and run on this machine."""

from __future__ import annotations

from tritonforge_client.extras import MissingExtraError
from tritonforge_generator.errors import TensorRTMissingError
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.plan.cuda import Gpu, cudart, gpu_from_device_id


def require_tensorrt(device_id: int = 0) -> Gpu:
    """Make sure that TensorRT, cuda-python and a GPU are here.

    Args:
        device_id: The GPU that is to build.

    Returns:
        The GPU.

    Raises:
        TensorRTMissingError: One of them is missing; with what to do.
    """
    tensorrt_api.tensorrt()
    try:
        cudart()
    except MissingExtraError as error:
        raise TensorRTMissingError(
            "cuda-python is not installed here",
            expected="the package cuda-python of the driver's CUDA major version",
            got=str(error),
            action="Run: pip install 'tritonforge[tensorrt]'.",
        ) from error
    return gpu_from_device_id(device_id)
