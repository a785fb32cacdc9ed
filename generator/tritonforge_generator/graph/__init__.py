"""Second stage: what a model's graph takes and gives, and whether its first axis is a batch."""

from tritonforge_generator.graph.from_source import graph_from_source
from tritonforge_generator.graph.graph import BatchAxis, Graph, GraphTensor
from tritonforge_generator.graph.samples import SampleOptions, Samples, samples_from_options
from tritonforge_generator.graph.session import OnnxSession

__all__ = [
    "BatchAxis",
    "Graph",
    "GraphTensor",
    "OnnxSession",
    "SampleOptions",
    "Samples",
    "graph_from_source",
    "samples_from_options",
]
