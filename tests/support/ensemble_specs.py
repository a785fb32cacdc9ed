"""Specs of ensembles for tests."""

SCORE_THEN_COPY = """
ensembles:
  - name: both
    input: [{name: x}]
    output: [{name: y}]
    ensemble_scheduling:
      step:
        - {model_name: score, output_map: {y: middle}}
        - {model_name: copy, input_map: {x: middle}}
"""
"""An ensemble of the models ``score`` and ``copy``, to be put behind these in a spec."""
