"""The builder of onnxruntime-genai, called for one float32 graph: run by `decoder` as a subprocess.

    python -m foundry_lite.conversion.torch_scripts.export_decoder PREPARED TARGET CACHE

The builder ignores options it does not know, so it is given two, and `derive` looks for what the first does: logits of
the last position only (prefill x1.8, a GB less at 0.5B; measured). `derive.open_window` builds on it. The second keeps
all keys of layers with a sliding window: then our own runner drives them at any length of the context.
"""

from __future__ import annotations

import sys

_OPTIONS = ["prune_lm_head=true", "windowed_kv_cache=false"]


def main() -> None:
    """Export one folder."""
    source, target, cache = sys.argv[1:4]
    export(source, target, cache)


def export(source: str, target: str, cache: str) -> None:
    """Export ``source``, a folder as `prepare` leaves it, into ``target``."""
    from onnxruntime_genai.models import builder

    from foundry_lite.conversion.torch_scripts.genai_builder import models, patches

    arguments = (source, target, "fp32", "cpu", cache)
    options = builder.parse_extra_options(None, *arguments, _OPTIONS)
    config = options["hf_details"]["hf_config"]
    patches.apply()
    patches.correct(config)
    with models.installed(config):
        builder.create_model(None, *arguments, **options)


if __name__ == "__main__":
    main()
