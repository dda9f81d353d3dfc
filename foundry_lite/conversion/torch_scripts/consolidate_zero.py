"""A ZeRO checkpoint in a format that only torch can read, written again in the format that needs no code to be run.

    python -m foundry_lite.conversion.torch_scripts.consolidate_zero CHECKPOINT TARGET

Reading runs any code in the files: it is done when the user allowed it, in this process. Classes of packages that are
not here, as DeepSpeed's own, are replaced by empty ones. One file is in memory at a time.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_OPTIMIZER = ("zero_stage", "partition_count", "fp32_flat_groups", "single_partition_of_fp32_groups",
              "param_alignment_paddings")  # fmt: skip
_MODEL = ("param_shapes", "frozen_param_shapes", "frozen_param_fragments", "shared_params", "buffer_names")


class _Missing:
    """Stands for a class whose package is not installed."""

    def __init__(self, *_arguments: object, **_named: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return _Missing


def main() -> None:
    """Write every file of a checkpoint again."""
    import torch

    checkpoint, target = (Path(argument) for argument in sys.argv[1:3])
    pickles = SimpleNamespace(__name__="pickle", Unpickler=_Unpickler, load=_load)
    for path in sorted(checkpoint.glob("*_states.pt")):
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=pickles)
        torch.save(_plain(content), target / path.name)


def _load(stream: Any, **options: Any) -> Any:
    return _Unpickler(stream, **options).load()


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    if "param_shapes" not in content:
        state = content["optimizer_state_dict"]
        return {"optimizer_state_dict": {name: state[name] for name in _OPTIMIZER if name in state}}
    found = {name: content[name] for name in _MODEL if content.get(name) is not None}
    module = content.get("module") or {}
    return found | {"module": {name: module[name] for name in found.get("buffer_names", ()) if name in module}}


if __name__ == "__main__":
    main()
