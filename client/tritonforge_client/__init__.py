"""Typed client for Triton Inference Server over gRPC and HTTP."""
