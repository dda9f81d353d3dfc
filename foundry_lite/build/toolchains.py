"""The environments that conversions run in: each pinned, in a folder of its own, made when it is first needed.

``own`` is the environment that foundry-lite itself runs in; it serves for what needs no torch.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from foundry_lite.errors import ToolchainMissing

OWN = "own"
GENAI = "genai"  # onnxruntime-genai's builder, transformers 5, torch, peft, gguf
OPTIMUM = "optimum"  # optimum-onnx and the transformers it needs: encoders

_NEEDED = ("torch", "transformers", "onnx", "onnx_ir", "onnxruntime_genai", "safetensors")


class Toolchains:
    """The toolchains below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def python(self, name: str) -> Path:
        """Return the interpreter of a toolchain, made when it is not there. Raises `ToolchainMissing`."""
        if name == GENAI:
            missing = [one for one in _NEEDED if importlib.util.find_spec(one) is None]
            if missing:
                raise ToolchainMissing(
                    f"converting a model needs packages that are not installed: {', '.join(missing)}",
                    hint='pip install "foundry-lite[build]"',
                )
        return Path(sys.executable)
