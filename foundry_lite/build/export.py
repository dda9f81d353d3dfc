"""The converter: onnxruntime-genai's model builder makes one float32 graph; every variant is derived from that.

Both run as subprocesses with an argument list, a folder out. The builder ignores options it does not know, so it is
given one, and `graph` looks for what that option does.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.errors import BuildFailed, StorageFull, ToolchainMissing
from foundry_lite.settings import child_environment

_GRAPH = "model.onnx"
_BUILDER = "onnxruntime_genai.models.builder"
_NEEDED = ("torch", "transformers", "onnx", "onnx_ir", "onnxruntime_genai", "safetensors")
_NO_ROOM = ("No space left on device", "File too large", "Disk quota exceeded")


def require_toolchain() -> None:
    """Raise `ToolchainMissing` when the ``build`` extra is not installed."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ToolchainMissing(
            f"converting a model needs packages that are not installed: {', '.join(missing)}",
            hint='pip install "foundry-lite[build]"',
        )


async def export(source: Path, target: Path, provider: str, scratch: Path) -> None:
    """Convert the model folder ``source`` into ``target``, in float32; ``scratch`` takes the log and temporary files.

    Raises `BuildFailed` with the last line of the builder's output, or `StorageFull`.
    """
    arguments = ["-m", _BUILDER, "-i", source, "-o", target, "-p", Precision.FP32, "-e", provider]
    # Logits of the last position only: prefill x1.8, a GB less at 0.5B (measured); `graph.open_window` builds on it.
    arguments += ["-c", scratch / "cache", "--extra_options", "prune_lm_head=true"]
    await run_python([str(one) for one in arguments], scratch, "export")
    if not (target / _GRAPH).is_file():
        raise BuildFailed("the builder ended without an error and without a model", hint=_look(scratch, "export"))


async def derive(exported: Path, targets: Mapping[Path, Recipe], scratch: Path) -> None:
    """Make a variant in each of the folders ``targets``, which must not exist, from the float32 export."""
    for target, recipe in targets.items():
        _begin(exported, target, recipe)
    jobs = scratch / "jobs.json"
    jobs.write_bytes(msgspec.json.encode([{"target": str(path), "recipe": one} for path, one in targets.items()]))
    await run_python(["-m", "foundry_lite.build.graph", str(exported), str(jobs)], scratch, "quantize")


async def make_adaptable(target: Path, scratch: Path) -> None:
    """Give the graph in ``target`` places for LoRA adapters."""
    await run_python(["-m", "foundry_lite.build.lora", str(target)], scratch, "lora")


async def add_companion(exported: Path, target: Path, scratch: Path) -> None:
    """Put the graph that computes prompts beside the one in ``target``."""
    await run_python(["-m", "foundry_lite.build.prefill", str(exported), str(target)], scratch, "companion")


def _begin(exported: Path, target: Path, recipe: Recipe) -> None:
    shutil.copytree(exported, target, ignore=shutil.ignore_patterns(f"{_GRAPH}*"))
    if recipe.precision is Precision.FP32:  # only the graph changes: the weights are the export's own
        for path in exported.glob(f"{_GRAPH}.*"):
            _link_or_copy(path, target / path.name)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


async def run_python(arguments: Sequence[str], scratch: Path, step: str) -> None:
    """Run this Python with ``arguments``, offline, everything it prints into ``scratch/<step>.log``.

    When this task is cancelled, the process and its children are killed first.
    """
    (scratch / "tmp").mkdir(exist_ok=True)
    log = scratch / f"{step}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=child_environment(
                HF_HUB_OFFLINE="1",
                HF_HUB_DISABLE_TELEMETRY="1",
                HF_HOME=str(scratch / "huggingface"),
                TMPDIR=str(scratch / "tmp"),
                TOKENIZERS_PARALLELISM="false",
            ),
            start_new_session=True,
        )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                _kill_group(process.pid)
                await process.wait()
    if code != 0:
        raise _explain(code, log.read_text(encoding="utf-8", errors="replace"), step, _look(scratch, step))


def _explain(code: int, output: str, step: str, hint: str) -> BuildFailed:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    last = lines[-1] if lines else "it printed nothing"
    if any(phrase in output for phrase in _NO_ROOM):
        return StorageFull(f"{step}: the disk is full ({last})", hint="Free some space and import again.")
    if code < 0:
        return BuildFailed(
            f"{step}: the process was killed by {signal.Signals(-code).name} (out of memory?)", hint=hint
        )
    return BuildFailed(f"{step}: {last}", hint=hint)


def _look(scratch: Path, step: str) -> str:
    return f"The whole output is in {scratch / f'{step}.log'} until the import is cleaned up; run with --keep-staging."


def _kill_group(pid: int) -> None:
    if hasattr(os, "killpg"):
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGTERM)
