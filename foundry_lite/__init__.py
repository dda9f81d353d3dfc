"""foundry-lite: a local inference daemon for fine-tuned small language models."""

import os

__version__ = "0.1.0"

# The onnxruntime wheels report usage to their maker unless this is set before the first import (measured: a device id
# and an sqlite file under ~/.cache/Microsoft). Every process of ours imports this package first, and children inherit.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
