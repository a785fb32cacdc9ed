"""The locustfile behind ``tritonforge load``: all it does is run the campaign of ``--campaign``."""

from __future__ import annotations

from tritonforge_load.session import CampaignUser, register

__all__ = ["CampaignUser"]

register()
