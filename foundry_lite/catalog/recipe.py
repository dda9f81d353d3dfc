"""Quantization recipe of a variant: all parameters of its build, and nothing else.

A recipe and the name of its variant are equivalent: `Recipe.variant` and `parse_variant` are each other's inverse.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from foundry_lite.errors import BadReference

BLOCK_SIZES = (16, 32, 64, 128, 256)
FAST_BLOCK_SIZE = 128  # 1.3 to 1.6 times as fast as blocks of 32 (docs/decisions/0009)


class Precision(StrEnum):
    """The number format of the weights."""

    INT4 = "int4"
    INT8 = "int8"
    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"

    @property
    def bits(self) -> int:
        return {"int4": 4, "int8": 8, "fp16": 16, "bf16": 16, "fp32": 32}[self]

    @property
    def is_quantized(self) -> bool:
        return self in (Precision.INT4, Precision.INT8)


class Algorithm(StrEnum):
    """Quantization algorithm: chooses the integer of each weight."""

    RTN = "rtn"  # round to nearest
    K_QUANT = "kq"  # scale and zero point of each block by a weighted search
    GPTQ = "gptq"  # rounding errors are made good by the weights that follow, with what calibration texts show
    KEPT = "kept"  # the source's own integers (GPTQ, AWQ, GGUF), where it has them


class Provider(StrEnum):
    """The execution provider a variant is built for; ``CPU`` is the one that is run and measured everywhere."""

    CPU = "cpu"
    CUDA = "cuda"
    DML = "dml"
    WEBGPU = "webgpu"
    TRT_RTX = "trtrtx"
    OPENVINO = "openvino"
    QNN = "qnn"
    COREML = "coreml"


class KvPrecision(StrEnum):
    """The number format of keys and values in memory."""

    FLOAT = "float"  # that of the graph's own arithmetic
    INT8 = "int8"


class Recipe(Struct, frozen=True, omit_defaults=True):
    """Quantization recipe. ``block_size`` is the number of weights that share a scale; ``None`` in floats.

    ``symmetric`` quantization has no zero points: the builder's default, and the only format with the fast kernels.
    ``mixed`` gives the head and the most sensitive matrices 8 bits where the others have 4.
    """

    precision: Precision
    block_size: int | None = None
    symmetric: bool = True
    algorithm: Algorithm = Algorithm.RTN
    mixed: bool = False
    provider: Provider = Provider.CPU
    kv: KvPrecision = KvPrecision.FLOAT
    fast_prefill: bool = False  # a W8A8 companion graph computes the prompts
    adapters: bool = False  # LoRA adapters can be loaded at run time

    @property
    def variant(self) -> str:
        """The name of the variant, such as ``cpu-int4`` (block 32), ``cpu-int4-b128`` or ``cuda-int4-kq-mixed``."""
        words = [str(self.provider), str(self.precision)]
        words += [f"b{self.block_size}"] * (self.block_size not in (None, 32))
        words += ["asym"] * (not self.symmetric) + [str(self.algorithm)] * (self.algorithm is not Algorithm.RTN)
        words += ["mixed"] * self.mixed + ["kv8"] * (self.kv is KvPrecision.INT8)
        return "-".join([*words, *["fp"] * self.fast_prefill, *["lora"] * self.adapters])


_WORDS: dict[str, dict[str, Any]] = {
    "asym": {"symmetric": False},
    "mixed": {"mixed": True},
    "kv8": {"kv": KvPrecision.INT8},
    "fp": {"fast_prefill": True},
    "lora": {"adapters": True},
    **{str(one): {"algorithm": one} for one in Algorithm if one is not Algorithm.RTN},
    **{f"b{size}": {"block_size": size} for size in BLOCK_SIZES if size != 32},
}


def recipe_for(precision: Precision, block_size: int | None = None) -> Recipe:
    """Return the recipe for a precision; quantized ones use blocks of 32 by default."""
    if not precision.is_quantized:
        return Recipe(precision)
    return Recipe(precision, block_size or 32)


def parse_variant(text: str) -> Recipe:
    """Return the recipe whose variant has this name. Raises `BadReference` with what is possible."""
    provider, *words = text.split("-")
    try:
        recipe = msgspec.structs.replace(recipe_for(Precision(words[0])), provider=Provider(provider))
        for word in words[1:]:
            recipe = msgspec.structs.replace(recipe, **_WORDS[word])
    except (ValueError, KeyError, IndexError):
        recipe = None
    if recipe is None or recipe.variant != text:
        raise BadReference(
            f"{text!r} is no variant",
            hint=f"PROVIDER-PRECISION, such as cpu-int4, with any of {', '.join(f'-{word}' for word in _WORDS)} "
            f"in the order that 'list' shows; providers: {', '.join(Provider)}; precisions: {', '.join(Precision)}.",
        )
    if problem := contradiction(recipe):
        raise BadReference(f"{text!r} cannot be built: {problem}", hint="Leave one of the two out.")
    return recipe


def contradiction(recipe: Recipe) -> str:
    """Return which fields of a recipe exclude each other, as a message; an empty string when none do."""
    if not recipe.precision.is_quantized and (recipe.block_size or recipe.mixed or not recipe.symmetric):
        return f"{recipe.precision} is not quantized, so it has no blocks, zero points or mixed bits"
    if not recipe.precision.is_quantized and recipe.algorithm is not Algorithm.RTN:
        return f"{recipe.precision} is not quantized, so {recipe.algorithm} does not apply"
    if recipe.mixed and recipe.precision is not Precision.INT4:
        return "mixed gives some matrices 8 bits instead of 4; in int8 all have them"
    if recipe.provider is not Provider.CPU and (
        recipe.fast_prefill or recipe.adapters or recipe.kv is KvPrecision.INT8
    ):
        return "fp, lora and kv8 are for the provider cpu"
    return ""
