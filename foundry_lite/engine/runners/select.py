"""Selection of the runner of a model folder: ours on plain onnxruntime where the graph allows it, else genai's."""

from __future__ import annotations

from pathlib import Path

from foundry_lite.catalog.recipe import Provider
from foundry_lite.engine.runners import model_folder, provider_parity
from foundry_lite.engine.runners.base import Runner
from foundry_lite.engine.runners.ort import OrtRunner
from foundry_lite.engine.runners.providers import NAMES
from foundry_lite.errors import LoadFailed


def open_runner(
    folder: Path, *, threads: int, slots: int, context_length: int, provider: Provider = Provider.CPU
) -> Runner:
    """Load a folder into the runner that its graph and the provider need; ours binds memory of the CPU.

    Raises `LoadFailed` when neither can drive it, or when the provider computes something else than the CPU.
    """
    found = model_folder.read(folder)
    if provider is not Provider.CPU and NAMES[provider].genai not in found.providers:
        return _open_elsewhere(folder, threads, slots, context_length, provider)
    why_not = found.why_not_plain(context_length)
    if not why_not and provider is Provider.CPU:
        return OrtRunner(folder, threads=threads, slots=slots, context_length=context_length)
    from foundry_lite.engine.runners.genai import GenaiRunner  # a second library, which most workers never need

    try:
        return GenaiRunner(folder, threads=threads, slots=slots, context_length=context_length, provider=provider)
    except LoadFailed as error:
        if provider is not Provider.CPU:
            raise
        raise LoadFailed(
            f"no runner can drive this model: {why_not}; {error.message}",
            hint="Import it again from its source, or with another version of the builder.",
        ) from error


def _open_elsewhere(folder: Path, threads: int, slots: int, context_length: int, provider: Provider) -> Runner:
    """Open a folder of the CPU's with another provider, and compare the two."""
    from foundry_lite.engine.runners.genai import GenaiRunner

    # By the same library: our own runner may compute prompts with a companion graph, which loses something itself.
    reference = provider_parity.sample(GenaiRunner(folder, threads=threads, slots=1, context_length=context_length))
    runner = GenaiRunner(folder, threads=threads, slots=slots, context_length=context_length, provider=provider)
    provider_parity.require(provider, provider_parity.sample(runner), reference)
    return runner


def runner_name(runner: Runner) -> str:
    """Return the name of the library that computes, for people."""
    return "onnxruntime" if isinstance(runner, OrtRunner) else "onnxruntime-genai"
