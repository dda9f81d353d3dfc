"""How property tests run: without a deadline, since the machine may be busy, and without files left behind."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None, database=None, max_examples=60)
settings.load_profile("unit")
