"""How property tests run: without a deadline, since the machine may be busy, and without files left behind.

The examples are the same in every run, so that a run that passed passes again; others are looked for by
``pytest --hypothesis-profile=search``, which is for whoever changes the code.
"""

from __future__ import annotations

import sys

from hypothesis import settings

settings.register_profile("unit", deadline=None, database=None, max_examples=60, derandomize=True)
settings.register_profile("search", deadline=None, database=None, max_examples=300)
if not any(argument.startswith("--hypothesis-profile") for argument in sys.argv):
    settings.load_profile("unit")
