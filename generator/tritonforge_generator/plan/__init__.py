"""TensorRT plans: what can be read of them without TensorRT."""

from tritonforge_generator.plan.header import PlanHeader, plan_header_from_path

__all__ = ["PlanHeader", "plan_header_from_path"]
