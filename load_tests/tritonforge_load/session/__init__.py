"""A campaign inside a Locust process."""

from tritonforge_load.session.plugin import register
from tritonforge_load.session.user import CampaignUser

__all__ = ["CampaignUser", "register"]
