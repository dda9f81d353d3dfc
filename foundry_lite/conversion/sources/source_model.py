"""Source model: the one description that sources of all kinds are converted to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from foundry_lite.catalog.card import Defaults, Task
from foundry_lite.catalog.recipe import Recipe


class Kind(StrEnum):
    """Kind of a source."""

    FOLDER = "huggingface-folder"
    ADAPTER = "peft-adapter"  # to be merged into its base
    ZERO = "deepspeed-zero"
    GPTQ = "gptq-folder"
    AWQ = "awq-folder"
    GGUF = "gguf"
    GENAI = "genai-folder"  # ready for onnxruntime-genai
    ONNX = "onnx-decoder"  # a plain decoder with past key values
    SENTENCES = "sentence-transformers"
    CROSS = "cross-encoder"


class Exporter(StrEnum):
    """Exporter of the float32 graph."""

    BUILDER = "onnxruntime-genai's builder"
    ENCODER = "torch's tracer, or optimum"
    NONE = "none"  # the source is a graph already


@dataclass(frozen=True, slots=True)
class Options:
    """Import options of a source. ``base`` is the model that an adapter belongs to."""

    base: Path | None = None
    allow_pickle: bool = False


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A source that was found to be importable. ``files`` are all that the build may read of it.

    ``notes`` are sentences that the user should read: what was dequantized, which template replaced a missing one.
    ``weight_bits`` is the width of most of its weights: 32, 16, or less where it comes quantized. ``recipe`` is what
    keeps a source as it is: its own integers, or its own graph; ``None`` where the recipe is to be chosen.
    """

    kind: Kind
    folder: Path  # the folder of the files; for a single file, its parent
    files: tuple[Path, ...]
    architecture: str
    parameters: int
    context_length: int
    task: Task = Task.GENERATE
    exporter: Exporter = Exporter.BUILDER
    defaults: Defaults = Defaults()
    license: str = "unknown"
    weight_bits: int = 16
    base: SourceModel | None = None
    recipe: Recipe | None = None
    needs_template: bool = False  # it brings no chat template: a plain one is used instead
    unties: bool = False  # its head has weights of its own, although its configuration ties it to the embedding
    notes: tuple[str, ...] = ()

    def place(self, path: Path, target: Path) -> Path:
        """Return where one of the files goes in the folder ``target``; the folders on the way are made."""
        place = target / path.relative_to(self.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place
