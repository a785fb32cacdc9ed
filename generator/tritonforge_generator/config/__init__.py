"""Stage that derives ``config.pbtxt`` from a graph, with the reason for every line."""

from tritonforge_generator.config.from_graph import model_config_from_graph
from tritonforge_generator.config.model_config import ModelConfig

__all__ = ["ModelConfig", "model_config_from_graph"]
