"""Write a Hugging Face model folder of a known shape with random weights: speed needs no trained ones.

    python benchmarks/random_model.py --shape qwen2.5-0.5b --out FOLDER [--seed 0]

Every engine is measured on conversions of this one folder. The shapes are those of the models they are named after;
the weights are normal deviates, scaled so that activations keep their size through the layers and the next token is
fairly clear. The tokenizer is byte-level BPE, trained on Python's own standard library and then filled up with made-up
words to exactly the vocabulary of the shape, since the size of the vocabulary is part of the cost. Needs the ``build``
extra. Such a model says nothing of quality, and nothing of engines that guess tokens ahead from repeating text.
"""

from __future__ import annotations

import argparse
import itertools
import json
import string
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"  # ids 0, 1, 2
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CORPUS_CHARACTERS = 8_000_000
_NORM_OF_LAST_LAYER = 3.0  # spreads the logits, so that the best token is not a near-tie


@dataclass(frozen=True, slots=True)
class Shape:
    """A family of transformers', its configuration, and how many words its tokenizer learns before it is filled up."""

    family: str
    config: dict[str, Any] = field(default_factory=dict)
    learned: int = 32_000


SHAPES = {
    "qwen2.5-0.5b": Shape(
        "Qwen2",
        {
            "vocab_size": 151_936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32_768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0,
            "tie_word_embeddings": True,
        },
    ),
    "smollm2-135m": Shape(
        "Llama",
        {
            "vocab_size": 49_152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100_000.0,
            "tie_word_embeddings": True,
        },
    ),
    "tiny": Shape(
        "Qwen2",
        {
            "vocab_size": 1024,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
        },
        learned=600,
    ),
}


def main() -> None:
    """Write one folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    parameters = write(arguments.out, SHAPES[arguments.shape], arguments.seed)
    print(f"{arguments.out}: {arguments.shape}, {parameters / 1e6:.1f} M parameters, seed {arguments.seed}")


def write(folder: Path, shape: Shape, seed: int = 0) -> int:
    """Write weights in bfloat16, tokenizer and chat template; return the number of parameters."""
    import torch
    import transformers

    config = getattr(transformers, f"{shape.family}Config")(
        **shape.config, bos_token_id=0, eos_token_id=2, pad_token_id=0
    )
    torch.manual_seed(seed)
    model = getattr(transformers, f"{shape.family}ForCausalLM")(config).to(torch.bfloat16)
    _randomize(model, seed)
    model.save_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(shape), bos_token=None, eos_token=END, pad_token=PAD
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def _randomize(model: Any, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.fill_(1.0)
                continue
            scale = 0.05 if "embed" in name else 0.02 if parameter.ndim == 1 else parameter.shape[1] ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        model.model.norm.weight.fill_(_NORM_OF_LAST_LAYER)


def _tokenizer(shape: Shape) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.learned,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    content = json.loads(tokenizer.to_str())
    _fill_up(content["model"]["vocab"], shape.config["vocab_size"])
    return Tokenizer.from_str(json.dumps(content))


def _fill_up(vocabulary: dict[str, int], size: int) -> None:
    """Add words of four letters, with their space, that no merge leads to: they can be generated, never read."""
    for letters in itertools.product(string.ascii_lowercase, repeat=4):
        if len(vocabulary) >= size:
            return
        vocabulary.setdefault("Ġ" + "".join(letters), len(vocabulary))


def _corpus() -> Iterator[str]:
    total = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        yield text
        total += len(text)
        if total > _CORPUS_CHARACTERS:
            return


if __name__ == "__main__":
    main()
