"""Which runner drives a model folder: ours on plain onnxruntime where the graph allows it, else onnxruntime-genai."""

from __future__ import annotations

from pathlib import Path

from foundry_lite.catalog.recipe import Provider
from foundry_lite.engine import model_folder
from foundry_lite.engine.ort_runner import OrtRunner
from foundry_lite.engine.runner import Runner
from foundry_lite.errors import LoadFailed


def open_runner(
    folder: Path, *, threads: int, slots: int, context_length: int, provider: Provider = Provider.CPU
) -> Runner:
    """Load a folder into the runner that its graph and the provider need.

    Ours binds memory of the CPU. Raises `LoadFailed` when neither can drive it.
    """
    why_not = model_folder.read(folder).why_not_plain(context_length)
    if not why_not and provider is Provider.CPU:
        return OrtRunner(folder, threads=threads, slots=slots, context_length=context_length)
    from foundry_lite.engine.genai_runner import GenaiRunner  # a second library, which most workers never need

    try:
        return GenaiRunner(folder, threads=threads, slots=slots, context_length=context_length, provider=provider)
    except LoadFailed as error:
        if provider is not Provider.CPU:
            raise
        raise LoadFailed(
            f"no runner can drive this model: {why_not}; {error.message}",
            hint="Import it again from its source, or with another version of the builder.",
        ) from error


def runner_name(runner: Runner) -> str:
    """Return the name of the library that computes, for people."""
    return "onnxruntime" if isinstance(runner, OrtRunner) else "onnxruntime-genai"
