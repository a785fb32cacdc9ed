"""The process that builds: reads a request, says how far it is on standard output, writes what came of it.

python -m tritonforge_generator.plan.child REQUEST.json RESULT.json
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from tritonforge_generator.children import end_with_parent
from tritonforge_generator.errors import PlanBuildError, TritonforgeError
from tritonforge_generator.plan.build import BuildRequest, build_plan, plan_facts
from tritonforge_generator.plan.recipe import KnownPlan
from tritonforge_generator.spec import ProfileShapes, TensorRTOptions


def main(request_path: Path, result_path: Path) -> int:
    """Build what a request file says.

    Returns:
        0 with a plan's facts in the result file, 1 with an error there.
    """
    try:
        plan = build_plan(_request_from_json(request_path.read_text(encoding="utf-8")), _say)
    except TritonforgeError as error:
        kind = "PlanBuildError" if isinstance(error, PlanBuildError) else type(error).__name__
        fields = {"what": error.what, "expected": error.expected, "got": error.got, "action": error.action}
        result_path.write_text(json.dumps({"error": kind, **fields}), encoding="utf-8")
        return 1
    result_path.write_text(json.dumps({"plan": plan_facts(plan)}), encoding="utf-8")
    return 0


def _request_from_json(text: str) -> BuildRequest:
    data = json.loads(text)
    return BuildRequest(
        network=Path(data["network"]),
        destination=Path(data["destination"]),
        precision=data["precision"],
        profiles=tuple(
            {name: ProfileShapes.model_validate(shapes) for name, shapes in profile.items()}
            for profile in data["profiles"]
        ),
        options=TensorRTOptions.model_validate(data["options"]),
        known={recipe: KnownPlan(path=Path(path), sha256=sha256) for recipe, (path, sha256) in data["known"].items()},
    )


def _say(share: float | None, text: str) -> None:
    sys.stdout.write(json.dumps({"share": share, "text": text}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    end_with_parent(signal.SIGKILL)  # a build that nobody waits for any more would hold the GPU for minutes
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
