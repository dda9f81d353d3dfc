"""The builder of onnxruntime-genai, called for another execution provider: run by `variants` as a subprocess.

    python -m foundry_lite.conversion.torch_scripts.export_provider PREPARED TARGET CACHE PRECISION PROVIDER
        OPTION=VALUE...

The builder ignores options it does not know, so `variants` gives it only those that are written down there, and what
comes out is looked at: an order for few bits that left no quantized product, or others than were ordered, is an error.
No device is needed. The memory is the builder's own: some 7 bytes for each parameter in int4.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx


def main() -> None:
    """Export one folder."""
    source, target, cache, precision, provider, *options = sys.argv[1:]
    export((source, target, precision, provider, cache), options)
    _require_order(Path(target), precision, options)


def export(arguments: tuple[str, str, str, str, str], options: list[str]) -> None:
    """Run the builder."""
    from onnxruntime_genai.models import builder

    from foundry_lite.conversion.torch_scripts.genai_builder import models, patches

    known = builder.parse_extra_options(None, *arguments, options)
    config = known["hf_details"]["hf_config"]
    patches.apply()
    patches.correct(config)
    with models.installed(config):
        builder.create_model(None, *arguments, **known)


def _require_order(target: Path, precision: str, options: list[str]) -> None:
    ordered = dict(option.split("=", 1) for option in options)
    nodes = onnx.load(target / "model.onnx", load_external_data=False).graph.node
    made = [node for node in nodes if node.op_type == "MatMulNBits"]
    if not precision.startswith("int"):
        return
    sizes = {one.i for node in made for one in node.attribute if one.name == "block_size"}
    bits = {one.i for node in made for one in node.attribute if one.name == "bits"}
    if sizes != {int(ordered["block_size"])} or int(precision.removeprefix("int")) not in bits:
        sys.exit(f"the builder was told {precision} in blocks of {ordered['block_size']} and made {bits} in {sizes}")
    if any(len(node.input) > 3 and node.input[3] for node in made) == (ordered["is_symmetric"] == "true"):
        sys.exit(f"the builder was told is_symmetric={ordered['is_symmetric']} and did the other")


if __name__ == "__main__":
    main()
