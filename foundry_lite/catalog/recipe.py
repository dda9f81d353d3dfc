"""How a variant is built: everything the builder is told, and nothing else."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

BLOCK_SIZES = (32, 64, 128)


class Precision(StrEnum):
    """The number format of the weights."""

    INT4 = "int4"
    INT8 = "int8"
    FP32 = "fp32"


class Recipe(Struct, frozen=True, omit_defaults=True):
    """One way to build a model. ``block_size`` is the number of weights that share a scale; ``None`` in fp32.

    ``symmetric`` quantization has no zero points: the builder's default, and the only form with the fast kernels.
    """

    precision: Precision
    block_size: int | None = None
    symmetric: bool = True
    provider: str = "cpu"
    fast_prefill: bool = False  # a W8A8 companion graph computes the prompts
    adapters: bool = False  # LoRA adapters can be loaded at run time

    @property
    def variant(self) -> str:
        """The name of the variant, such as ``cpu-int4`` (block 32) or ``cpu-int4-b128``."""
        block = f"-b{self.block_size}" if self.block_size not in (None, 32) else ""
        extras = "-fp" * self.fast_prefill + "-lora" * self.adapters
        return f"{self.provider}-{self.precision}{block}{extras}"


FAST_BLOCK_SIZE = 128  # 1.3 to 1.6 times as fast as blocks of 32 (docs/decisions/0009)


def recipe_for(precision: Precision, block_size: int | None = None) -> Recipe:
    """Return the recipe for a precision; quantized ones use blocks of 32 unless told otherwise."""
    if precision is Precision.FP32:
        return Recipe(precision)
    return Recipe(precision, block_size or BLOCK_SIZES[0])
