"""Build the package's embedded model from ``model/`` as any user would, with the held-out cases, and put it in place.

    python examples/home_assistant/publish.py

The pipeline measures everything: the artifact goes to ``foundry_lite/embedded``, its card to ``model_cards``. Run it
from the root of the repository: the paths in the card are relative to it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import cases

from foundry_lite.catalog.recipe import Precision, recipe_for
from foundry_lite.conversion.build_spec import BuildSpec
from foundry_lite.conversion.pipeline import build, open_site
from foundry_lite.conversion.records.write import redescribe
from foundry_lite.settings import Settings
from foundry_lite.store.store import Artifact

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NAME = "home-assistant"
DESCRIPTION = (
    "A home assistant of 4.4 million parameters, trained from scratch on generated conversations: it answers a request "
    "with a call of one of the tools given in the prompt, turns a tool's result into a sentence, answers questions "
    "about itself and foundry-lite, and says when it cannot help."
)
LIMITS = (
    "English only. It knows nothing of the world: what is not in its generated training data it refuses or gets wrong. "
    "It was trained on prompts of up to a few hundred tokens; longer ones are accepted and unreliable. Its purpose is "
    "to show and to test foundry-lite on a real model. The held-out figures are those of a development set: wrong "
    "answers were looked at more than once and the training generator was changed afterwards, and carrier phrases such "
    "as 'it is time to' occur in both sets, in other requests; on a set that nobody has seen, expect less."
)


def main() -> None:
    """Build, describe, publish."""
    cases.main()
    folder = HERE.relative_to(ROOT)
    order = BuildSpec(
        NAME, str(folder / "model"), (recipe_for(Precision.INT4),), eval=str(folder / "cases.jsonl"), replaces=True
    )
    with tempfile.TemporaryDirectory() as scratch:
        site = open_site(Settings(home=Path(scratch)))
        outcome = asyncio.run(build(order, site, lambda step: print(step)))
        publish(outcome.artifacts[0])


def publish(artifact: Artifact) -> None:
    """Put the artifact into the package, with what only we can say of it in its card."""
    target = ROOT / "foundry_lite" / "embedded" / NAME / str(artifact.ref.variant)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(artifact.folder, target)
    redescribe(target, description=DESCRIPTION, limits=LIMITS, license="MIT")
    shutil.copyfile(target / "card.toml", ROOT / "model_cards" / f"{NAME}.toml")
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"published {target.relative_to(ROOT)}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
