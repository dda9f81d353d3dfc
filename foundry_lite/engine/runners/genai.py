"""Runner on onnxruntime-genai, for the graphs that `ort` cannot drive: other caches, other attention.

Each slot is a generator of its own, which computes one sequence: nothing is batched, so a row's logits never depend on
its company. The library is asked for logits only; it chooses no tokens. What it says of a mistake is prose, so lengths
and ids are checked before it sees them, and whatever else it raises becomes one of our errors in `_translated`.

A slot remembers its tokens: what a generator cannot do (forget some of them; go on after an error), a new one does by
computing them again. A generator reserves the memory of a whole context at once where past and present share a buffer
(measured, docs/decisions/0011), and ``kv_granule`` says so.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og

from foundry_lite.catalog.recipe import Provider
from foundry_lite.engine.runners import adapter_file, fold_defaults, model_folder
from foundry_lite.engine.runners.base import Logits
from foundry_lite.engine.runners.model_folder import ModelFolder
from foundry_lite.engine.runners.providers import NAMES, plugin_of
from foundry_lite.errors import ContextExceeded, FoundryError, InternalFault, InvalidRequest, LoadFailed

_GROWING = (Provider.OPENVINO,)  # makes present anew in each step, whatever the configuration says
_REPLAY = 512  # tokens that are computed again in one piece
_STEPS = 16  # tokens prefilled in the time that one takes to decode; docs/decisions/0011
_NO_CHOOSING = {  # the logits are wanted as the graph gives them, of one sequence
    "batch_size": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "min_length": 0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}


@dataclass(slots=True)
class _Slot:
    """A slot with one sequence. ``generator`` is ``None`` where there is none yet, or where it must be made anew."""

    tokens: list[int] = field(default_factory=list)
    generator: Any = None
    adapter: str | None = None


class GenaiRunner:
    """Runner of one model folder in onnxruntime-genai, on the CPU or with another execution provider.

    Raises `LoadFailed` when it cannot be loaded, does not run, or was not given the provider that is asked for.

    ``can_extend`` says whether the graph takes several tokens behind others. Where it does not, as with the mask of
    ``MultiHeadAttention``, `prefill` of a slot that holds tokens works, but computes them again or goes one by one.
    """

    can_copy = False
    can_verify = False
    uses_companion = False

    def __init__(
        self, folder: Path, *, threads: int, slots: int, context_length: int, provider: Provider = Provider.CPU
    ) -> None:
        self._folder = model_folder.read(folder)
        if self._folder.senses:
            raise LoadFailed(f"it takes more than tokens: {', '.join(self._folder.senses)}")
        self.slots = slots
        self.row_counts: Sequence[int] = range(1, slots + 1)
        self.context_length = min(context_length, self._folder.context_length)
        self.vocabulary = self._folder.vocabulary
        self._capacity = max(self.context_length, self._folder.window)  # a window must fit into the buffer
        shares = self._folder.shares_buffer is True and provider not in _GROWING
        self.kv_granule = self._capacity if shares else 1
        self.kv_bytes_per_token = self._folder.kv_bytes_per_token * (1 if shares else 2)  # past and present
        with _translated(LoadFailed):
            _register(provider)
            graph = _plain_graph(self._folder) if provider is Provider.OPENVINO else b""
            self._model = og.Model(_configuration(self._folder, threads, provider, graph))
        self._takes_adapters = not graph
        device = NAMES[provider].device
        if device and self._model.device_type != device:
            raise LoadFailed(f"{provider} was asked for, onnxruntime-genai took {self._model.device_type}")
        self._adapters: Any = None  # made with the first of them
        self._slots = [_Slot() for _ in range(slots)]
        self._logits = np.zeros((slots, self.vocabulary), np.float32)
        self.can_extend, self.can_rewind = self._try_out()

    def prefill(self, slot: int, tokens: Sequence[int]) -> Logits:
        """Append ``tokens``; see `Runner.prefill`. Raises `ContextExceeded` or `InvalidRequest`; nothing is lost."""
        self._append(self._slots[slot], list(tokens))
        return self._read(self._slots[slot]).copy()

    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> Logits:
        """Append one token to each slot, one slot after the other; see `Runner.decode`."""
        for row, (slot, token) in enumerate(zip(slots, tokens, strict=True)):
            self._append(self._slots[slot], [token])
            self._logits[row] = self._read(self._slots[slot])
        return self._logits[: len(slots)]

    def verify(self, slot: int, tokens: Sequence[int]) -> Logits:
        """Not possible, as the head may be computed for the last position only; see `can_verify`."""
        raise NotImplementedError("this runner cannot verify")

    def keep(self, slot: int, length: int) -> None:
        """Forget what lies beyond ``length`` tokens; what a generator cannot forget is computed again when needed."""
        state = self._slots[slot]
        if length >= len(state.tokens):
            return
        del state.tokens[length:]
        if not length:
            state.generator = None  # its memory goes with it
        elif state.generator is not None:
            try:
                state.generator.rewind_to(length)
            except RuntimeError:  # its state has no way back, or what it would need has been overwritten
                state.generator = None

    def drop_companion(self) -> None:
        """Do nothing: there is one graph."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Not possible, as a generator's keys and values are its own; see `can_copy`."""
        raise NotImplementedError("this runner cannot copy")

    def adapt(self, slot: int, adapter: str | None) -> None:
        """Compute what follows in ``slot``, which must be empty, with an adapter; see `Runner.adapt`."""
        self._slots[slot].adapter = adapter

    def load_adapter(self, name: str, path: Path) -> None:
        """Load a LoRA adapter; see `Runner.load_adapter`. The library would notice only when it is used first."""
        if not self._takes_adapters:
            raise LoadFailed("this execution provider takes no adapters", hint="Run the model on the CPU.")
        graph = self._folder.graph
        for key, array in adapter_file.read(path).items():
            if key not in graph.optional:
                raise LoadFailed(f"{path.name} adapts {key}, which this model has no place for")
            shape = graph.inputs[key].shape
            if not _fits(array.shape, shape):
                raise LoadFailed(f"{path.name}: {key} has the shape {array.shape}, this model needs {shape}")
        with _translated(LoadFailed):
            if self._adapters is None:
                self._adapters = og.Adapters(self._model)
            self._adapters.load(str(path), name)

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; no slot may use it."""
        with _translated(InternalFault):
            self._adapters.unload(name)

    def length(self, slot: int) -> int:
        """Return the number of tokens that the slot holds."""
        return len(self._slots[slot].tokens)

    def _append(self, state: _Slot, tokens: list[int]) -> None:
        self._check(tokens, len(state.tokens) + len(tokens))
        pieces = self._pieces(state, tokens)
        try:
            with _translated(InternalFault):
                if state.generator is None:
                    state.generator = self._generator(state.adapter)
                for piece in pieces:
                    state.generator.append_tokens(np.array(piece, np.int32))
        except FoundryError:
            state.generator = None  # after an error it counts tokens that it has not computed (measured)
            raise
        state.tokens += tokens

    def _check(self, tokens: list[int], total: int) -> None:
        """Refuse what the library would answer with prose, or, as a negative id, with nonsense."""
        if total > self.context_length:
            raise ContextExceeded(total, self.context_length)
        if not tokens or not 0 <= min(tokens) <= max(tokens) < self.vocabulary:
            raise InvalidRequest(f"a prompt is made of token ids from 0 to {self.vocabulary - 1}", "prompt")

    def _pieces(self, state: _Slot, tokens: list[int]) -> list[list[int]]:
        """Return what to give the generator, call by call; drop it where a new one is quicker."""
        total = len(state.tokens) + len(tokens)
        behind_others = bool(state.tokens) and len(tokens) > 1
        if state.generator is not None and behind_others and not self.can_extend:
            if total > _STEPS * len(tokens):
                return [[token] for token in tokens]
            state.generator = None
        if state.generator is not None or not state.tokens:
            return [tokens]
        everything = state.tokens + tokens
        size = _REPLAY if self.can_extend else total
        return [everything[start : start + size] for start in range(0, total, size)]

    def _generator(self, adapter: str | None) -> Any:
        parameters = og.GeneratorParams(self._model)
        parameters.set_search_options(max_length=self._capacity, **_NO_CHOOSING)
        generator = og.Generator(self._model, parameters)
        if adapter is not None:
            generator.set_active_adapter(self._adapters, adapter)
        return generator

    def _read(self, state: _Slot) -> Logits:
        """Return the logits ``(vocabulary,)`` after the last token."""
        logits: Logits = state.generator.get_logits().reshape(-1, self.vocabulary)[-1]
        return logits

    def _try_out(self) -> tuple[bool, bool]:
        """Run a few tokens, so that a graph that fails does so now; return ``(can_extend, can_rewind)``."""
        with _translated(LoadFailed):
            generator = self._generator(None)
            generator.append_tokens(np.zeros(2, np.int32))
            width = generator.get_logits().shape[-1]
            if width != self.vocabulary:
                raise LoadFailed(f"the graph gives {width} logits, the configuration says {self.vocabulary}")
            can_rewind = _works(lambda: generator.rewind_to(1)) and not self._folder.window
            generator.append_tokens(np.zeros(1, np.int32))
        return _works(lambda: generator.append_tokens(np.zeros(2, np.int32))), can_rewind


def _fits(shape: tuple[int, ...], place: tuple[int | str, ...]) -> bool:
    sizes = zip(shape, place, strict=False)
    return len(shape) == len(place) and all(isinstance(wanted, str) or size == wanted for size, wanted in sizes)


def _works(call: Callable[[], object]) -> bool:
    try:
        call()
    except RuntimeError:
        return False
    return True


def _register(provider: Provider) -> None:
    """Make the library of an installed plug-in known to onnxruntime-genai."""
    module = plugin_of(provider)
    if module is None:
        return
    try:
        path = importlib.import_module(module).get_library_path()
    except (ImportError, AttributeError, OSError) as error:
        raise LoadFailed(f"the package {module} cannot be used: {error}") from error
    try:
        og.register_execution_provider_library(NAMES[provider].onnxruntime, path)
    except RuntimeError as error:
        if "already registered" not in str(error):  # by an earlier runner of this process
            raise


def _plain_graph(folder: ModelFolder) -> bytes:
    optional = folder.graph.optional
    return fold_defaults.without_defaults(folder.path / folder.file, optional) if optional else b""


def _configuration(folder: ModelFolder, threads: int, provider: Provider, graph: bytes) -> Any:
    """Return the folder's configuration with our number of threads and provider, errors as exceptions only.

    ``graph`` takes the place of the file's, if it is not empty; it is not copied, so it must live until it is loaded.
    """
    configuration = og.Config(str(folder.path))
    name = NAMES[provider].genai
    if name not in folder.providers:  # else what the builder says of it stays
        configuration.clear_providers()
        if provider is not Provider.CPU:
            configuration.append_provider(name)
    if provider is Provider.OPENVINO:  # it has threads of its own
        own = {"CPU": {"INFERENCE_NUM_THREADS": str(threads)}}
        configuration.set_provider_option(name, "load_config", json.dumps(own))
    if graph:
        configuration.add_model_data(folder.file, graph)
    model: dict[str, Any] = {"decoder": {"session_options": {"intra_op_num_threads": threads, "log_severity_level": 4}}}
    if folder.window > folder.context_length:
        model["context_length"] = folder.window  # only so that a buffer may be as long as the window
    search = {"search": {"past_present_share_buffer": False}} if provider in _GROWING else {}
    configuration.overlay(json.dumps({"model": model, **search}))
    return configuration


@contextmanager
def _translated(kind: type[FoundryError]) -> Iterator[None]:
    """Turn what the library raises, always a `RuntimeError`, into an error of ours with its first line."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).strip().splitlines() or ["no reason given"]
        raise kind(f"onnxruntime-genai: {said[0]}") from error
