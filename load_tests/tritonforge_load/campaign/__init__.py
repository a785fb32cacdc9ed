"""What a campaign file says."""

from tritonforge_load.campaign.assertion import Assertion, assertion_from_text
from tritonforge_load.campaign.file import Campaign, Gate, Observe, Outputs, Target, Transport, Validity, read_campaign
from tritonforge_load.campaign.phases import (
    ClosedPhase,
    CurvePhase,
    GammaPhase,
    OpenPhase,
    Phase,
    PlayedPhase,
    RatePhase,
    Search,
    SearchPhase,
    TracePhase,
)
from tritonforge_load.campaign.workload import ArraySource, Check, InputSource, Workload

__all__ = [
    "ArraySource",
    "Assertion",
    "Campaign",
    "Check",
    "ClosedPhase",
    "CurvePhase",
    "GammaPhase",
    "Gate",
    "InputSource",
    "Observe",
    "OpenPhase",
    "Outputs",
    "Phase",
    "PlayedPhase",
    "RatePhase",
    "Search",
    "SearchPhase",
    "Target",
    "TracePhase",
    "Transport",
    "Validity",
    "Workload",
    "assertion_from_text",
    "read_campaign",
]
