"""The builder of onnxruntime-genai, called for one float32 graph: run by `export` as a subprocess.

    python -m foundry_lite.build.tools.export_decoder PREPARED TARGET CACHE

The builder ignores options it does not know, so it is given one, and `graph` looks for what that option does: logits
of the last position only (prefill x1.8, a GB less at 0.5B; measured). `graph.open_window` builds on it.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Export one folder."""
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    source, target, cache = sys.argv[1:4]
    arguments = (source, target, "fp32", "cpu", cache)
    options = parse_extra_options(None, *arguments, ["prune_lm_head=true"])
    create_model(None, *arguments, **options)


if __name__ == "__main__":
    main()
