"""Stand-in for TensorRT on a machine without a GPU: put its folder first on ``sys.path``.

It has exactly the names of a real version, ``STAND_IN_TENSORRT`` in the environment: what that version lacks is an
``AttributeError`` here too. Plans are built from ONNX files of a few operators, or written by
``support.stand_in_plans``, and run on the stand-in CUDA streams beside it. A node called ``fault: ...`` makes the
builder fail.
"""

from . import _building, _names, _runtime

__version__ = _names.NAMES["version"]
globals().update(_names.exported({**vars(_runtime), **vars(_building)}))
