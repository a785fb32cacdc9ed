"""Turns trained models into verified Triton model repositories."""
