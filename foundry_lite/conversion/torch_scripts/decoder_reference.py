"""Reference of a decoder, computed by transformers in float32: run by `quality` as a subprocess.

    python -m foundry_lite.conversion.torch_scripts.decoder_reference MODEL_FOLDER ENQUIRY.json TARGET

``ENQUIRY.json`` is an `Enquiry`; TARGET gets the two files of `reference`. Memory beyond the weights is bounded:
one text of a few hundred tokens at a time, batches of few tokens and few keys and values, no logits of a whole prompt.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from foundry_lite.conversion.evaluate.reference import ARRAYS, RECORD, Enquiry, Question, Record, Rendered

_KEPT = 64  # of a vocabulary; `losses` takes what is left of the mass as one more token
_PIECE = 32  # positions whose logarithms are computed at once
_BATCH_BYTES = 128 << 20  # of the activations of one batch, and of its keys and values
_MOST_ROWS = 64
_FIRST_TOKENS = 64  # of each answer; the few that are longer go on together, so that nobody waits for them


def main() -> None:
    """Ask one source."""
    folder, target = Path(sys.argv[1]), Path(sys.argv[3])
    enquiry = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Enquiry)
    try:
        record, arrays = _Source(folder, enquiry).answer()
    except _Unanswerable as error:
        sys.exit(str(error))
    np.savez_compressed(target / ARRAYS, **arrays)
    (target / RECORD).write_bytes(msgspec.json.encode(record))


class _Unanswerable(Exception):
    """A question that the source cannot answer; the message names it and the reason."""


class _Source:
    """Source model with its tokenizer, loaded by transformers."""

    def __init__(self, folder: Path, enquiry: Enquiry) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        self._torch = torch
        self._enquiry = enquiry
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        self._prompts = self._render_questions()  # before the weights are read: an error here costs nothing
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, local_files_only=True
        ).eval()
        given = self._model.generation_config
        self._shape = self._model.config.get_text_config()
        self._eos = _ids(given.eos_token_id, self._shape.eos_token_id)
        # Nothing else of the source's own settings counts: no penalties, no least length.
        self._model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=self._eos or None, pad_token_id=self._eos[0] if self._eos else 0
        )
        self._can_skip_logits = "logits_to_keep" in inspect.signature(self._model.forward).parameters

    def answer(self) -> tuple[Record, dict[str, Any]]:
        """Return both files' contents."""
        chats = tuple(self._render(one) for one in self._enquiry.chats)
        answers = self._generate()
        texts = [*self._neutral_texts(), *self._own_texts(answers)]
        arrays: dict[str, Any] = {}
        for number, (tokens, first) in enumerate(texts):
            for name, array in self._judge(tokens, first).items():
                arrays[f"{name}_{number}"] = array
            if number % 8 == 7 or number == len(texts) - 1:
                _report("texts", number + 1, len(texts))
        record = Record(
            date=datetime.now(UTC).astimezone().date().isoformat(),
            prefix=len(self._prefix()),
            neutral=len(self._enquiry.texts),
            chats=chats,
            prompts=tuple(tuple(one) for one in self._prompts),
            answers=tuple(tuple(one) for one in answers),
            eos=tuple(self._eos),
        )
        return record, arrays

    def _render_questions(self) -> list[list[int]]:
        prompts = []
        for one in self._enquiry.questions:
            rendered = self._render(one)
            room = self._enquiry.context_length - one.max_tokens
            if rendered.error:
                raise _Unanswerable(f"{one.name}: the chat template refuses it: {rendered.error}")
            if len(rendered.tokens) > room:
                raise _Unanswerable(
                    f"{one.name}: its prompt has {len(rendered.tokens)} tokens; with {one.max_tokens} for the answer, "
                    f"the context has room for {room}"
                )
            prompts.append(list(rendered.tokens))
        return prompts

    def _render(self, question: Question, answer: dict[str, Any] | None = None) -> Rendered:
        messages = [*question.messages, *([answer] if answer else [])]
        tools = None if question.tools is None else list(question.tools)
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tools=tools, add_generation_prompt=answer is None, tokenize=False
            )
        except Exception as error:  # noqa: BLE001  # a template may raise whatever it likes
            return Rendered(error=f"{type(error).__name__}: {error}"[:500])
        return Rendered(tuple(self._encode(text)))

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    def _prefix(self) -> list[int]:
        """Return the tokens that the tokenizer puts before every text: none, or the beginning-of-sequence token."""
        bos = self._tokenizer.bos_token_id
        return [bos] if bos is not None and self._tokenizer("a")["input_ids"][:1] == [bos] else []

    def _neutral_texts(self) -> Iterator[tuple[list[int], int]]:
        for text in self._enquiry.texts:
            yield [*self._prefix(), *self._encode(text)][: self._enquiry.longest], 0

    def _own_texts(self, answers: list[list[int]]) -> Iterator[tuple[list[int], int]]:
        for index in self._enquiry.own_texts:
            prompt = self._prompts[index]
            answer = self._expected(self._enquiry.questions[index], prompt) or answers[index]
            if answer:
                yield [*prompt, *answer[: self._enquiry.longest]], len(prompt) - 1

    def _expected(self, question: Question, prompt: list[int]) -> list[int]:
        """Return the expected message as the template writes it behind the prompt, if it can be separated from it."""
        if question.answer is None:
            return []
        whole = list(self._render(question, question.answer).tokens)
        if whole[: len(prompt)] != prompt:
            return []
        answer = whole[len(prompt) :]
        ends = [place for place, token in enumerate(answer) if token in self._eos]
        return answer[: ends[0] + 1] if ends else answer

    def _judge(self, tokens: list[int], first: int) -> dict[str, Any]:
        """Return the reference of one text: see `reference.Passage`."""
        torch = self._torch
        count = len(tokens) - 1 - first  # at least one: an answer is not empty, and a text has two tokens
        kept: list[tuple[Any, Any, Any]] = []
        with torch.inference_mode():
            given = torch.tensor([tokens[:-1]])
            skips = {"logits_to_keep": count} if self._can_skip_logits else {}
            logits = self._model(given, use_cache=False, **skips).logits[0, -count:]
            follow = torch.tensor(tokens[first + 1 :])
            for low in range(0, count, _PIECE):
                logprobs = logits[low : low + _PIECE].log_softmax(-1)
                best = logprobs.topk(min(_KEPT, logprobs.shape[-1]))
                losses = -logprobs.gather(1, follow[low : low + _PIECE, None])[:, 0]
                kept.append((best.indices.int().numpy(), best.values.numpy(), losses.numpy()))
        ids, values, losses = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        return {"tokens": np.array(tokens, np.int32), "ids": ids, "logprobs": values, "losses": losses}

    def _generate(self) -> list[list[int]]:
        """Return the greedy answer to each question."""
        limits = [one.max_tokens for one in self._enquiry.questions]
        answers: list[list[int]] = [[] for _ in limits]
        waiting = [index for index, limit in enumerate(limits) if limit]
        for most in (_FIRST_TOKENS, max(limits, default=0)):
            for batch in self._batches(waiting, answers, most):
                for index, more in zip(batch, self._continue(batch, answers, most), strict=True):
                    answers[index] += more
                    if answers[index][-1] in self._eos or len(answers[index]) == limits[index]:
                        waiting.remove(index)
                _report("answers", len(limits) - len(waiting), len(limits))
        return answers

    def _continue(self, batch: Sequence[int], answers: list[list[int]], most: int) -> Iterator[list[int]]:
        """Go on with some answers, until each has at most ``most`` tokens, as many as it may have, or its end."""
        torch = self._torch
        prompts = [self._prompts[index] + answers[index] for index in batch]
        limits = [self._room(index, answers, most) for index in batch]
        width = max(map(len, prompts))
        pad = self._model.generation_config.pad_token_id
        ids = torch.tensor([[pad] * (width - len(one)) + one for one in prompts])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
        with torch.inference_mode():
            out = self._model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max(limits))
        for row, limit in zip(out[:, width:].tolist(), limits, strict=True):
            ends = [place for place, token in enumerate(row[:limit]) if token in self._eos]
            yield row[: ends[0] + 1] if ends else row[:limit]

    def _room(self, index: int, answers: list[list[int]], most: int) -> int:
        return min(most, self._enquiry.questions[index].max_tokens) - len(answers[index])

    def _batches(self, waiting: list[int], answers: list[list[int]], most: int) -> list[list[int]]:
        """Put prompts of about the same length together."""
        kv_bytes, token_bytes = _kv_bytes(self._shape), _activation_bytes(self._shape)
        batches: list[list[int]] = [[]]
        for index in sorted(waiting, key=lambda one: (len(self._prompts[one]), one)):
            rows, width = len(batches[-1]) + 1, len(self._prompts[index]) + len(answers[index])
            longest = width + max(self._room(one, answers, most) for one in [*batches[-1], index])
            is_wide = max(width * token_bytes, longest * kv_bytes) * rows > _BATCH_BYTES
            if batches[-1] and (rows > _MOST_ROWS or is_wide):
                batches.append([])
            batches[-1].append(index)
        return batches if batches[0] else []


def _ids(*given: Any) -> list[int]:
    """Return the first of the settings that is there, as a list."""
    for one in given:
        if one is not None:
            return list(one) if isinstance(one, list | tuple) else [int(one)]
    return []


def _kv_bytes(config: Any) -> int:
    """Return the bytes that one token's keys and values take, in float32."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * 4 * config.num_hidden_layers * heads * size)


def _activation_bytes(config: Any) -> int:
    """Return about how many bytes one token of a prompt takes within a layer, in float32."""
    return 4 * int(4 * config.hidden_size + 3 * (getattr(config, "intermediate_size", None) or 4 * config.hidden_size))


def _report(what: str, done: int, total: int) -> None:
    sys.stdout.write(f"progress {done}/{total} {what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
