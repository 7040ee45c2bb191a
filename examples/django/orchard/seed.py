"""Whom there are at first, who follows whom, and what they have done: the same on every example site."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings

SEED: dict[str, Any] = json.loads((settings.PAGE.parent / "seed.json").read_text())
