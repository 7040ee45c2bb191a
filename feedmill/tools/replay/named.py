"""What workers import, behind the module that declares a manager, to write to the feeds of that manager: ``REPLAY_MANAGER`` names it."""

from __future__ import annotations

import os

from feedmill import registry, settings
from feedmill.tools.replay.social import MANAGER, playing_for

playing_for(registry.get_manager(os.environ[MANAGER]))
# What an application's module says of servers is for the application, and not for a replay.
settings.change({}, settings.ENVIRONMENT, afresh=True)
