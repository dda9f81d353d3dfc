"""Every family of `source_model.FAMILIES`, converted: all from one subprocess, as importing torch takes longest.

``python -m tests.built_families OUT`` writes, for each, ``OUT/<slug>-source``, the float32 graph ``OUT/<slug>``, and
what transformers computes for the source: the logits ``(tokens, vocabulary)`` of `TOKENS`, in ``OUT/<slug>.npy``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests import source_model
from tests.support import ROOT, environment

CONTEXT = 256
TOKENS: list[int] = np.random.default_rng(0).integers(3, 400, 200).tolist()


def slug(family: str) -> str:
    """Return the name of a family's folder."""
    return re.sub(r"[^a-z0-9]+", "-", family.lower()).strip("-")


def build(folder: Path) -> Path:
    """Write all folders."""
    command = [sys.executable, "-m", "tests.built_families", str(folder)]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(folder, HF_HUB_OFFLINE="1", ORT_DISABLE_TELEMETRY="1"),
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


def _main(out: Path) -> None:
    from foundry_lite.conversion.torch_scripts import export_decoder

    for family in source_model.FAMILIES:
        source = source_model.write_family(out / f"{slug(family)}-source", family)
        np.save(out / f"{slug(family)}.npy", source_model.reference(source, TOKENS))
        export_decoder.export(str(source), str(out / slug(family)), str(out / "cache"))
    (out / "lacking.txt").write_text(_export_with_a_weight_less(out), encoding="utf-8")


def _export_with_a_weight_less(out: Path) -> str:
    """Return what the exporter says of a folder that lacks a norm."""
    from safetensors.torch import load_file, save_file

    from foundry_lite.conversion.torch_scripts import export_decoder

    folder = shutil.copytree(out / "llama-source", out / "lacking")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.input_layernorm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    try:
        export_decoder.export(str(folder), str(out / "lacking-out"), str(out / "cache"))
    except ValueError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
