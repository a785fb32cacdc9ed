"""The server's, the GPU's and the generator's side, on one time line with the load."""

from tritonforge_load.observe.models import ModelFacts, ModelSnapshot, facts_between
from tritonforge_load.observe.process import ProcessMeter, ProcessReading
from tritonforge_load.observe.server import ServerObserver, Snapshot
from tritonforge_load.observe.timeline import Sample, Timeline

__all__ = [
    "ModelFacts",
    "ModelSnapshot",
    "ProcessMeter",
    "ProcessReading",
    "Sample",
    "ServerObserver",
    "Snapshot",
    "Timeline",
    "facts_between",
]
