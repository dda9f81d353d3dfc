"""DeepSpeed ZeRO checkpoints of a model folder, in DeepSpeed's published layout, as its engine saves them."""

from __future__ import annotations

import math
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

OPTIM = "_optim_states.pt"
TEXTS = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class LossScaler:
    """Something of the trainer's own that such files hold too."""

    def __init__(self) -> None:
        self.scale = 65536.0


def write(source: Path, folder: Path, stage: int, ranks: int = 2, *, frozen: tuple[str, ...] = ()) -> Path:
    """Write the checkpoint of a model as ``ranks`` processes would; ``frozen`` are ends of names not trained."""
    import torch
    from safetensors.torch import load_file

    steps = folder / "global_step10"
    steps.mkdir(parents=True)
    for name in TEXTS:
        if (source / name).exists():
            shutil.copy(source / name, folder)
    (folder / "latest").write_text("global_step10")
    state = load_file(source / "model.safetensors")
    kept = {name: one for name, one in state.items() if name.endswith(frozen or ("\0",))}
    trained = {name: one for name, one in state.items() if name not in kept}
    groups = _groups(trained)
    shapes = [OrderedDict((name, one.shape) for name, one in group.items()) for group in groups]
    for rank in range(ranks):
        flat = [_partition(list(group.values()), stage, rank, ranks) for group in groups]
        optimizer = {
            "loss_scaler": LossScaler(),
            "zero_stage": stage,
            "partition_count": ranks if stage == 3 else [ranks] * len(groups),
            "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups": flat,
            "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}},
        }
        prefix = "bf16_" if stage == 1 else ""
        torch.save(
            {"optimizer_state_dict": optimizer, "ds_version": "0.19.8"},
            steps / f"{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
        )
        if stage == 3 or rank == 0:
            _write_model(steps, stage, rank, ranks, shapes, kept, state)
    return folder


def _write_model(
    steps: Path, stage: int, rank: int, ranks: int, shapes: Any, kept: dict[str, Any], state: dict[str, Any]
) -> None:
    import torch

    parts = {name: _part(one.bfloat16(), rank, ranks) if stage == 3 else one.bfloat16() for name, one in kept.items()}
    content = {
        "module": OrderedDict() if stage == 3 else {name: one.bfloat16() for name, one in state.items()},
        "buffer_names": [],
        "param_shapes": shapes,
        "frozen_param_shapes": OrderedDict((name, one.shape) for name, one in kept.items()) or None,
        "frozen_param_fragments": parts or None,
        "shared_params": {} if "lm_head.weight" in state else {"lm_head.weight": "model.embed_tokens.weight"},
        "ds_version": "0.19.8",
        "dtype": torch.bfloat16,
    }
    name = f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" if stage == 3 else "mp_rank_00_model_states.pt"
    torch.save(content, steps / name)


def _groups(state: dict[str, Any]) -> list[dict[str, Any]]:
    """With weight decay and without, as the Trainer groups parameters."""
    plain = {name: one for name, one in state.items() if one.ndim == 1}
    return [{name: one for name, one in state.items() if name not in plain}, plain]


def _part(tensor: Any, rank: int, ranks: int) -> Any:
    """One rank's part of a parameter in stage 3: all the same size, the last padded."""
    import torch

    flat = tensor.flatten()
    size = math.ceil(flat.numel() / ranks)
    padded = torch.cat([flat, flat.new_zeros(size * ranks - flat.numel())])
    return padded[rank * size : (rank + 1) * size].clone()


def _partition(tensors: list[Any], stage: int, rank: int, ranks: int) -> Any:
    import torch

    if stage == 3:
        group = torch.cat([_part(one.float(), rank, ranks) for one in tensors])
        group.ds_id = 7  # DeepSpeed leaves marks on its tensors, so torch pickles them in another way
        return group
    flat = torch.cat([one.float().flatten() for one in tensors])
    return _part(torch.cat([flat, flat.new_zeros(-flat.numel() % (2 * ranks))]), rank, ranks)
