"""A ZeRO checkpoint put together: every parameter's pieces in a row, in float32, by numpy.

    python -m foundry_lite.conversion.checkpoint.consolidate_zero FOLDER CHECKPOINT TARGET [--unchecked]

``FOLDER`` has the configuration. ``--unchecked`` is for files that torch had to read first: their weights are compared
with the configuration here, and not when the source was inspected.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundry_lite.conversion.formats import safetensors
from foundry_lite.conversion.formats.hf_config import read_config
from foundry_lite.conversion.jobs.step_context import StepContext, link_or_copy
from foundry_lite.conversion.sources.deepspeed_zero import Weight, check_finite, drop_tied, read_weights, unties
from foundry_lite.conversion.sources.hf_folder import describe_model, read_architecture
from foundry_lite.conversion.sources.source_model import SourceModel
from foundry_lite.conversion.sources.weight_checks import SINGLE, untied
from foundry_lite.conversion.toolchains.toolchains import GENAI
from foundry_lite.errors import PickledWeights


async def prepare(found: SourceModel, target: Path, step: StepContext) -> None:
    """Write the model of a checkpoint into ``target``, which exists and is empty. Raises `BuildFailed`.

    Files that cannot be read without running them are run in a process of their own: `inspect` lets such a source
    pass only when the user allowed it.
    """
    checkpoint = next(path for path in found.files if path.name.endswith("_optim_states.pt")).parent
    for path in found.files:
        if path.suffix != ".pt" and path.name != "config.json":
            link_or_copy(path.resolve(), found.place(path, target))
    unchecked: list[str] = []
    try:
        read_weights(checkpoint)
    except PickledWeights:
        plain = step.folder("unpickled")
        await step.run("foundry_lite.conversion.torch_scripts.consolidate_zero", checkpoint, plain, toolchain=GENAI)
        checkpoint, unchecked = plain, ["--unchecked"]
    await step.run("foundry_lite.conversion.checkpoint.consolidate_zero", found.folder, checkpoint, target, *unchecked)


def main() -> None:
    """Put one checkpoint together."""
    folder, checkpoint, target = (Path(argument) for argument in sys.argv[1:4])
    consolidate(folder, checkpoint, target, checked="--unchecked" not in sys.argv)


def consolidate(folder: Path, checkpoint: Path, target: Path, *, checked: bool = True) -> None:
    """Write ``model.safetensors`` and ``config.json`` into ``target``. Raises a `SourceRejected`."""
    config = read_config(folder)
    weights = drop_tied(read_weights(checkpoint), config)
    if not checked:
        describe_model(folder, config, read_architecture(config), {name: one.shape for name, one in weights.items()})
        check_finite(weights)
    data: dict[str, Iterable[NDArray[Any]]] = {name: _numbers(weight) for name, weight in weights.items()}
    safetensors.write(target / SINGLE, {name: ("F32", one.shape) for name, one in weights.items()}, data)
    if unties(weights, config):
        config = untied(config)
    config["dtype"] = "float32"
    if "torch_dtype" in config:
        config["torch_dtype"] = "float32"
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _numbers(weight: Weight) -> Iterator[NDArray[np.float32]]:
    for span in weight.spans:
        yield from span.stored.numbers(span.start, span.stop)


if __name__ == "__main__":
    main()
