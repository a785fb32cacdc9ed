"""Stage that derives an ensemble from the models it is made of, and refuses edges that do not fit."""

from tritonforge_generator.ensemble.composing import ComposingModel, composing_models
from tritonforge_generator.ensemble.config import model_config_from_ensemble
from tritonforge_generator.ensemble.derive import Ensemble, ensemble_from_options
from tritonforge_generator.ensemble.order import ensembles_in_order
from tritonforge_generator.ensemble.written import options_from_config

__all__ = [
    "ComposingModel",
    "Ensemble",
    "composing_models",
    "ensemble_from_options",
    "ensembles_in_order",
    "model_config_from_ensemble",
    "options_from_config",
]
