"""TensorRT plans: built, examined and run. The only code that touches TensorRT."""

from tritonforge_generator.plan.builder import plan_from_onnx
from tritonforge_generator.plan.containers import objection_of_release
from tritonforge_generator.plan.engine import Engine, PlanTensor, ShapeRange
from tritonforge_generator.plan.header import PlanHeader, plan_header_from_path
from tritonforge_generator.plan.plan import Plan
from tritonforge_generator.plan.profiles import Profile, profiles_from_options
from tritonforge_generator.plan.recipe import KnownPlan
from tritonforge_generator.plan.runner import Runner

__all__ = [
    "Engine",
    "KnownPlan",
    "Plan",
    "PlanHeader",
    "PlanTensor",
    "Profile",
    "Runner",
    "ShapeRange",
    "objection_of_release",
    "plan_from_onnx",
    "plan_header_from_path",
    "profiles_from_options",
]
