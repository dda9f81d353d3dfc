"""A program that is run on the processors that an emulator has: ``python -m tests.on_processor FOLDER``.

``FOLDER`` is one that `test_processors` has filled. Prints what this processor computes, as one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from foundry_lite.catalog.encoder import read_encoder
from foundry_lite.engine.encoder import fingerprint as encoder_fingerprint
from foundry_lite.engine.encoder.session import EncoderSession
from foundry_lite.engine.encoder.tokenizer import EncoderText
from foundry_lite.engine.runners import fingerprint
from foundry_lite.engine.runners.ort import OrtRunner, open_session
from foundry_lite.errors import LoadFailed
from foundry_lite.machine import find_kernels, saturates


def main() -> None:
    """Run everything once."""
    folder, kernels = Path(sys.argv[1]), find_kernels()
    found = {
        "kernels": kernels,
        "is_said_to_saturate": saturates(kernels),
        "sums": _sums(folder / "sums.onnx"),
        "decoders": {one.name: _load(one, kernels) for one in sorted((folder / "decoders").iterdir())},
        "encoders": {one.name: _encode(one, kernels) for one in sorted((folder / "encoders").iterdir())},
    }
    print(json.dumps(found))  # noqa: T201 - its only output


def _sums(graph: Path) -> list[int]:
    """Multiply activations of 255 with weights of 127, two a sum, and with what `quantize_columns` makes of them."""
    (out,) = open_session(graph, 1).run(None, {"activations": np.full((4, 64), 255, np.uint8)})
    return sorted({int(one) for one in np.asarray(out).ravel()})


def _load(folder: Path, kernels: str) -> dict[str, Any]:
    runner = OrtRunner(folder, threads=1, slots=2, context_length=64)
    try:
        note = fingerprint.settle(runner, folder, kernels)
    except LoadFailed as error:
        return {"refused": error.message}
    return {"note": note, "uses_companion": runner.uses_companion, "logits": runner.prefill(0, [65, 66, 67]).tolist()}


def _encode(folder: Path, kernels: str) -> dict[str, Any]:
    encoder = read_encoder(folder)
    session, vocabulary = EncoderSession(folder, encoder, 1), EncoderText(folder, encoder).vocabulary
    try:
        return {"note": encoder_fingerprint.settle(session, vocabulary, folder, kernels)}
    except LoadFailed as error:
        return {"refused": error.message}


if __name__ == "__main__":
    main()
