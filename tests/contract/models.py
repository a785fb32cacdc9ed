"""Small Python-backend models that the contract tests serve with a real Triton."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from tritonforge_client.datatypes import BY_DATATYPE

# BF16 is left out of `identity`: the Python backend cannot turn it into a numpy array.
IDENTITY_DATATYPES = tuple(name for name in BY_DATATYPE if name != "BF16")


def write_models(repository: Path) -> None:
    """Write every model that the contract tests call into an empty folder."""
    write_model(repository, "identity", config=_identity_config(), code=_IDENTITY)
    write_model(repository, "identity_bf16", config=_BF16_CONFIG, code=_IDENTITY_BF16)
    write_model(repository, "add_sub", config=_ADD_SUB_CONFIG, code=_ADD_SUB)
    write_model(repository, "failing", config=_FAILING_CONFIG, code=_FAILING)
    write_model(repository, "slow", config=_SLOW_CONFIG, code=_SLOW)
    write_model(repository, "cancellable", config=_SLOW_CONFIG, code=_CANCELLABLE)
    write_model(repository, "queue_limited", config=_QUEUE_LIMITED_CONFIG, code=_SLOW)
    write_model(repository, "odd_names", config=_ODD_NAMES_CONFIG, code=_ODD_NAMES)
    write_model(repository, "repeat", config=_REPEAT_CONFIG, code=_REPEAT)
    write_model(repository, "running_sum", config=_RUNNING_SUM_CONFIG, code=_RUNNING_SUM)
    write_model(repository, "overridden", config=_LABELLED_CONFIG, code=_LABELLED)
    (repository / "overridden" / "labels.txt").write_text("cat\ndog\nbird\n")
    write_model(repository, "labelled", config=_LABELLED_CONFIG, code=_LABELLED)
    (repository / "labelled" / "labels.txt").write_text("cat\ndog\nbird\n")
    write_model(repository, "lying", config=_LYING_CONFIG, code=_LYING)


def write_model(repository: Path, name: str, *, config: str, code: str) -> None:
    """Write version 1 of one Python-backend model."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(f'backend: "python"\n{dedent(config)}')
    (version / "model.py").write_text(
        f"import time\n\nimport numpy as np\nimport triton_python_backend_utils as pb_utils\n{dedent(code)}"
    )


def _identity_config() -> str:
    """One optional input and one output a datatype, so one process serves all datatypes."""
    tensors = ["max_batch_size: 0"]
    for name in IDENTITY_DATATYPES:
        data_type = BY_DATATYPE[name].data_type
        tensors.append(f'input [{{ name: "IN_{name}" data_type: {data_type} dims: [-1, -1] optional: true }}]')
        tensors.append(f'output [{{ name: "OUT_{name}" data_type: {data_type} dims: [-1, -1] }}]')
    return "\n".join(tensors)


_IDENTITY = """
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(t.name().replace("IN_", "OUT_", 1), t.as_numpy()) for t in request.inputs()]
            )
            for request in requests
        ]
"""

_BF16_CONFIG = """
max_batch_size: 0
input [{ name: "IN" data_type: TYPE_BF16 dims: [-1] }]
output [{ name: "OUT" data_type: TYPE_BF16 dims: [-1] }]
"""

_IDENTITY_BF16 = """
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor.from_dlpack("OUT", pb_utils.get_input_tensor_by_name(request, "IN").to_dlpack())]
            )
            for request in requests
        ]
"""

_ADD_SUB_CONFIG = """
max_batch_size: 8
input [
  { name: "a" data_type: TYPE_FP32 dims: [4] },
  { name: "b" data_type: TYPE_FP32 dims: [4] }
]
output [
  { name: "sum" data_type: TYPE_FP32 dims: [4] },
  { name: "difference" data_type: TYPE_FP32 dims: [4] }
]
dynamic_batching { }
"""

_ADD_SUB = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "a").as_numpy()
            b = pb_utils.get_input_tensor_by_name(request, "b").as_numpy()
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("sum", a + b), pb_utils.Tensor("difference", a - b)])
            )
        return responses
"""

_FAILING_CONFIG = """
max_batch_size: 0
input [{ name: "how" data_type: TYPE_STRING dims: [1] }]
output [{ name: "never" data_type: TYPE_FP32 dims: [1] }]
"""

_FAILING = """
class TritonPythonModel:
    def execute(self, requests):
        how = pb_utils.get_input_tensor_by_name(requests[0], "how").as_numpy()[0].decode()
        if how == "raise":
            raise ValueError("the model raised this")
        code = getattr(pb_utils.TritonError, how)
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError("the model answered this", code))]
"""

_SLOW_CONFIG = """
max_batch_size: 0
input [{ name: "delay_s" data_type: TYPE_FP32 dims: [1] }]
output [{ name: "slept_s" data_type: TYPE_FP32 dims: [1] }]
"""

_SLOW = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            delay_s = pb_utils.get_input_tensor_by_name(request, "delay_s").as_numpy()
            time.sleep(float(delay_s.max()))
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("slept_s", delay_s)]))
        return responses
"""

_CANCELLABLE = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            delay_s = pb_utils.get_input_tensor_by_name(request, "delay_s").as_numpy()
            end_s = time.monotonic() + float(delay_s.max())
            while time.monotonic() < end_s and not request.is_cancelled():
                time.sleep(0.01)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("slept_s", delay_s)]))
        return responses
"""

_QUEUE_LIMITED_CONFIG = """
max_batch_size: 1
input [{ name: "delay_s" data_type: TYPE_FP32 dims: [1] }]
output [{ name: "slept_s" data_type: TYPE_FP32 dims: [1] }]
dynamic_batching {
  default_queue_policy {
    timeout_action: REJECT
    default_timeout_microseconds: 60000000
    allow_timeout_override: true
    max_queue_size: 1
  }
}
"""

_ODD_NAMES_CONFIG = """
max_batch_size: 4
input [
  { name: "input:0" data_type: TYPE_INT64 dims: [2] },
  { name: "class" data_type: TYPE_STRING dims: [1] },
  { name: "options" data_type: TYPE_INT64 dims: [2] optional: true }
]
output [
  { name: "out/sum" data_type: TYPE_INT64 dims: [2] },
  { name: "class" data_type: TYPE_STRING dims: [1] }
]
"""

_ODD_NAMES = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            numbers = pb_utils.get_input_tensor_by_name(request, "input:0").as_numpy()
            text = pb_utils.get_input_tensor_by_name(request, "class").as_numpy()
            extra = pb_utils.get_input_tensor_by_name(request, "options")
            total = numbers if extra is None else numbers + extra.as_numpy()
            upper = np.array([[row[0].upper()] for row in text], dtype=np.object_)
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("out/sum", total), pb_utils.Tensor("class", upper)])
            )
        return responses
"""

# Its config promises (batch, 3); it answers (batch, 5). The Python backend lets that through.
_LYING_CONFIG = """
max_batch_size: 4
input [{ name: "x" data_type: TYPE_FP32 dims: [3] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [3] }]
"""

_LYING = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            rows = pb_utils.get_input_tensor_by_name(request, "x").as_numpy().shape[0]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", np.zeros((rows, 5), np.float32))]))
        return responses
"""

# Answers a request `count` times, with `pause_s` between; a negative count fails after as many answers.
_REPEAT_CONFIG = """
max_batch_size: 0
input [
  { name: "count" data_type: TYPE_INT32 dims: [1] },
  { name: "pause_s" data_type: TYPE_FP32 dims: [1] optional: true }
]
output [{ name: "index" data_type: TYPE_INT32 dims: [1] }]
model_transaction_policy { decoupled: true }
"""

_REPEAT = """
import threading


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            count = int(pb_utils.get_input_tensor_by_name(request, "count").as_numpy()[0])
            pause = pb_utils.get_input_tensor_by_name(request, "pause_s")
            pause_s = 0.0 if pause is None else float(pause.as_numpy()[0])
            threading.Thread(target=self._answer, args=(request.get_response_sender(), count, pause_s)).start()

    def _answer(self, sender, count, pause_s):
        for index in range(abs(count)):
            if sender.is_cancelled():
                break
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("index", np.array([index], np.int32))]))
            time.sleep(pause_s)
        if count < 0:
            error = pb_utils.TritonError("the model failed in the middle", pb_utils.TritonError.UNAVAILABLE)
            sender.send(pb_utils.InferenceResponse(error=error))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

_RUNNING_SUM_CONFIG = """
max_batch_size: 1
input [{ name: "x" data_type: TYPE_INT32 dims: [1] }]
output [{ name: "sum" data_type: TYPE_INT32 dims: [1] }]
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  oldest { max_candidate_sequences: 16 }
  control_input [
    {
      name: "START"
      control [{ kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] }]
    },
    {
      name: "ID"
      control [{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }]
    }
  ]
}
"""

_RUNNING_SUM = """
class TritonPythonModel:
    def initialize(self, args):
        self._sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            key = int(pb_utils.get_input_tensor_by_name(request, "ID").as_numpy().ravel()[0])
            starts = bool(pb_utils.get_input_tensor_by_name(request, "START").as_numpy().ravel()[0])
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            self._sums[key] = x + (0 if starts else self._sums[key])
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("sum", self._sums[key])]))
        return responses
"""

_LABELLED_CONFIG = """
max_batch_size: 4
input [{ name: "x" data_type: TYPE_FP32 dims: [3] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" }]
"""

_LABELLED = """
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(r, "x").as_numpy())])
            for r in requests
        ]
"""
