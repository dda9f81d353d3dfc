"""`encoder.json`: what an encoder's graph needs around it so that a text becomes a vector or a score.

It lies beside ``model.onnx``, whose inputs and output it names. A batch is filled up on the right with ``pad_id``, and
``attention_mask`` is 0 there. Texts of an embedding model give hidden states ``(texts, tokens, dimensions)``, pooled as
``pooling`` says over the tokens that are no padding; a pair of a reranker gives one logit ``(pairs, 1)``.
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
    """How the vectors of a text's tokens become one."""

    MEAN = "mean"
    CLS = "cls"  # the first token's
    LAST = "lasttoken"
    MAX = "max"


class Activation(StrEnum):
    """What makes a score of a reranker's logit."""

    SIGMOID = "sigmoid"
    IDENTITY = "identity"


class Similarity(StrEnum):
    """How vectors are to be compared."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"


class Encoder(Struct, frozen=True, omit_defaults=True):
    """One encoder. ``max_length`` is in tokens, special ones included; what is longer is cut.

    ``prompts`` are texts to be put before the input, by name; ``default_prompt`` names the one that is used unasked.
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
