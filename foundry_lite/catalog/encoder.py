"""`encoder.json`: the settings that turn the output of an encoder's graph into a vector or a score.

It lies beside ``model.onnx``, whose inputs and output it names. A batch is filled up on the right with ``pad_id``, and
``attention_mask`` is 0 there. Texts of an embedding model give hidden states ``(texts, tokens, dimensions)``, pooled as
``pooling`` selects, over the tokens that are not padding; a pair of a reranker gives one logit ``(pairs, 1)``.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec import Struct

from foundry_lite.catalog.card import Task
from foundry_lite.errors import DamagedArtifact

ENCODER = "encoder.json"


class Pooling(StrEnum):
    """Pooling of token vectors into one vector for the text."""

    MEAN = "mean"
    CLS = "cls"  # the first token's
    LAST = "lasttoken"
    MAX = "max"


class Activation(StrEnum):
    """Activation function that converts a reranker's logit to a score."""

    SIGMOID = "sigmoid"
    IDENTITY = "identity"


class Similarity(StrEnum):
    """Similarity function by which embedding vectors are to be compared."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"


class Encoder(Struct, frozen=True, omit_defaults=True):
    """Encoder settings. ``max_length`` is in tokens, special ones included; longer inputs are truncated.

    ``prompts`` are prefixes of the input, by name; ``default_prompt`` names the one that is used by default.
    """

    task: Task
    max_length: int
    dimensions: int  # of the vector; 1 for a reranker
    pad_id: int = 0
    inputs: tuple[str, ...] = ()
    output: str = ""
    pooling: Pooling | None = None
    normalise: bool = False
    similarity: Similarity = Similarity.COSINE
    activation: Activation | None = None
    lowercase: bool = False
    prompts: dict[str, str] = {}
    default_prompt: str = ""


def read_encoder(folder: Path) -> Encoder:
    """Read the `encoder.json` of a model. Raises `DamagedArtifact`."""
    try:
        return msgspec.json.decode((folder / ENCODER).read_bytes(), type=Encoder)
    except (OSError, msgspec.DecodeError) as error:
        raise DamagedArtifact(f"{ENCODER}: {error}", hint="Import the model again with --force.") from error


def write_encoder(encoder: Encoder, folder: Path) -> None:
    """Write the `encoder.json` of a model."""
    (folder / ENCODER).write_bytes(msgspec.json.format(msgspec.json.encode(encoder), indent=1) + b"\n")
