"""Requests made ready before load starts, and what their answers are compared with."""

from tritonforge_load.payloads.checks import AnswerCheck, check_of
from tritonforge_load.payloads.requests import MEMORY_LIMIT_BYTES, Request, requests_of

__all__ = ["MEMORY_LIMIT_BYTES", "AnswerCheck", "Request", "check_of", "requests_of"]
