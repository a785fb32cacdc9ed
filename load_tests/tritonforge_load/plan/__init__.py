"""What a campaign will do, told before it runs and without a server."""

from tritonforge_load.plan.campaign import CampaignPlan, PhasePlan, plan_from_campaign
from tritonforge_load.plan.files import FilePlan, PayloadPlan
from tritonforge_load.plan.gates import GatePlan

__all__ = ["CampaignPlan", "FilePlan", "GatePlan", "PayloadPlan", "PhasePlan", "plan_from_campaign"]
