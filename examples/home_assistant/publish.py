"""Build the package's embedded model from ``model/``, measure it, and write its card.

    python examples/home_assistant/publish.py

Imports the folder as any user would (int4, blocks of 32), measures exact match on the held-out cases for the float32
source (transformers) and for the int4 build (through the daemon), and puts the artifact into ``foundry_lite/embedded``
and its card into ``model_cards``.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from foundry_lite import devices
from foundry_lite.build.pipeline import Order, build
from foundry_lite.catalog.card import Card, Evidence, format_card
from foundry_lite.catalog.recipe import Precision, recipe_for
from foundry_lite.settings import child_environment
from foundry_lite.store.manifest import digest_files, write_manifest
from foundry_lite.store.store import Artifact, Store

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
    """Build, measure, publish."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        order = Order(HERE.relative_to(ROOT) / "model", NAME, recipe_for(Precision.INT4))
        artifact = asyncio.run(build(order, Store(home, embedded=home / "none"), lambda step: print(step)))
        evidence = (*artifact.card().evidence, *measure_source(), *measure_build(home, artifact))
        card = msgspec.structs.replace(
            artifact.card(), description=DESCRIPTION, limits=LIMITS, license="MIT", evidence=evidence
        )
        publish(artifact, card)


def measure_source() -> tuple[Evidence, ...]:
    """Measure the float32 source with transformers."""
    arguments = ("--model", str(HERE.relative_to(ROOT) / "model"))
    return _evidence("float32", arguments, _accuracy(*arguments))


def measure_build(home: Path, artifact: Artifact) -> tuple[Evidence, ...]:
    """Measure the int4 build through a daemon of its own."""
    daemon = subprocess.Popen(
        [sys.executable, "-m", "foundry_lite.cli.main", "serve", "--port", "0"],
        env=child_environment(FOUNDRY_LITE_HOME=str(home)),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemon.stdout is not None
        found = re.search(r"http://\S+", daemon.stdout.readline())
        assert found is not None, "the daemon did not start"
        summary = _accuracy("--base-url", f"{found[0]}/v1", "--served", str(artifact.ref))
    finally:
        daemon.terminate()
        daemon.wait()
    return _evidence("int4", ("--base-url", "http://127.0.0.1:5273/v1", "--served", NAME), summary)


def publish(artifact: Artifact, card: Card) -> None:
    """Put the artifact into the package, with the card that now has its figures."""
    target = ROOT / "foundry_lite" / "embedded" / NAME / str(artifact.ref.variant)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(artifact.folder, target)
    for path in (target / "card.toml", ROOT / "model_cards" / f"{NAME}.toml"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(format_card(card), encoding="utf-8")
    manifest = msgspec.structs.replace(artifact.manifest, files=digest_files(target))
    write_manifest(target, manifest)
    print(f"published {target.relative_to(ROOT)}, {manifest.size_bytes / 1e6:.1f} MB")


def _accuracy(*arguments: str) -> dict[str, dict[str, Any]]:
    command = [sys.executable, str(HERE / "accuracy.py"), *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    summary: dict[str, dict[str, Any]] = json.loads(done.stdout)
    print(arguments, json.dumps(summary))
    return summary


def _evidence(kind: str, arguments: tuple[str, ...], summary: dict[str, dict[str, Any]]) -> tuple[Evidence, ...]:
    command = " ".join(("python examples/home_assistant/accuracy.py", *arguments))
    return tuple(
        Evidence(
            metric=f"heldout_exact_match.{group}.{kind}",
            value=row["exact_match"],
            unit="share",
            date=datetime.now(UTC).date().isoformat(),
            command=command,
            samples=row["cases"],
            machine=devices.probe_machine().processor,
        )
        for group, row in summary.items()
    )


if __name__ == "__main__":
    main()
