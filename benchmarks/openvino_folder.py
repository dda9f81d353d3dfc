"""Convert a Hugging Face folder to OpenVINO with weights of 4 bits by optimum-intel and NNCF, for OpenVINO GenAI.

    python benchmarks/openvino_folder.py FOLDER TARGET [--group-size 128] [--head-int8]

Run it with a Python of its own that has ``optimum-intel``, ``nncf``, ``openvino-tokenizers`` and ``requests``:
optimum-intel wants an older transformers than the ``build`` extra. Weights are symmetric. Embedding and head are in 4
bits too, as those of the other engines; NNCF's own default leaves them in 8 (``--head-int8``).
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Convert one folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--group-size", type=int, default=128, help="weights that share a scale")
    parser.add_argument("--head-int8", action="store_true", help="embedding and head in 8 bits")
    arguments = parser.parse_args()
    convert(arguments.folder, arguments.target, arguments.group_size, is_head_int8=arguments.head_int8)
    size = sum(path.stat().st_size for path in arguments.target.iterdir())
    print(f"{arguments.target}: int4, group size {arguments.group_size}, {size / 1e6:.0f} MB")


def convert(folder: Path, target: Path, group_size: int, *, is_head_int8: bool) -> None:
    """Write the model and its tokenizer, from which OpenVINO GenAI loads."""
    from optimum.exporters.openvino.convert import export_tokenizer
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
    from transformers import AutoTokenizer

    quantization = OVWeightQuantizationConfig(
        bits=4, sym=True, group_size=group_size, ratio=1.0, all_layers=not is_head_int8
    )
    model = OVModelForCausalLM.from_pretrained(folder, export=True, quantization_config=quantization, compile=False)
    model.save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(target)
    export_tokenizer(tokenizer, target)


if __name__ == "__main__":
    main()
