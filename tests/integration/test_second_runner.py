"""A model whose graph is no plain decoder, served over HTTP by the second runner."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from foundry_lite.catalog.card import Card, Defaults, format_card
from foundry_lite.catalog.recipe import Precision, recipe_for
from foundry_lite.engine.runners.genai import GenaiRunner
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.generation import Chat, Message, Role
from foundry_lite.store.manifest import Source, new_manifest, write_manifest
from tests.support import Daemon

pytestmark = pytest.mark.build
PROMPTS = ["Tell me of rivers.", "Why?", "A longer question, so that the rows have lengths of their own."]


@pytest.fixture(scope="module")
def folder(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "models" / "hybrid" / "cpu-fp32"
    shutil.copytree(built / "hybrid", folder)
    recipe = recipe_for(Precision.FP32)
    card = Card("hybrid", "Lfm2ForCausalLM", 1, 1024, "tests", recipe, defaults=Defaults(temperature=0.0))
    (folder / "card.toml").write_text(format_card(card))
    source = Source("test", "tests/built_folders.py", "Lfm2ForCausalLM", 1, ())
    write_manifest(folder, new_manifest(folder, "hybrid", source, recipe, versions={}, checks=()))
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[openai.OpenAI]:
    daemon = Daemon(folder.parents[2], FOUNDRY_LITE_KV_MEMORY="1GB")
    yield daemon.client()
    log = daemon.stop()
    assert "Traceback" not in log, log


def _ask(client: openai.OpenAI, *turns: str) -> str:
    roles = ["user", "assistant"]
    messages: Any = [{"role": roles[at % 2], "content": turn} for at, turn in enumerate(turns)]
    answer = client.chat.completions.create(
        model="hybrid",
        messages=messages,
        max_tokens=24,
        extra_body={"ignore_eos": True},
    )
    return answer.choices[0].message.content or ""


def test_answers_are_the_runners_greedy_tokens_alone_and_in_company(client: openai.OpenAI, folder: Path) -> None:
    text = TextModel(folder)
    runner = GenaiRunner(folder, threads=1, slots=1, context_length=512)
    expected = []
    for prompt in PROMPTS:
        tokens = [int(runner.prefill(0, text.encode_chat(Chat((Message(Role.USER, prompt),)))).argmax())]
        for _ in range(23):
            tokens.append(int(runner.decode([0], tokens[-1:])[0].argmax()))
        runner.keep(0, 0)
        expected.append(tokens)
    alone = [_ask(client, prompt) for prompt in PROMPTS]
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        together = list(pool.map(lambda prompt: _ask(client, prompt), PROMPTS))
    assert together == alone
    for tokens, answer in zip(expected, alone, strict=True):
        detokenizer = text.detokenizer()
        assert answer
        assert "".join(detokenizer.feed(token) for token in tokens) + detokenizer.flush() == answer


def test_a_conversation_goes_on(client: openai.OpenAI) -> None:
    first = _ask(client, "Tell me of rivers.")
    again = [_ask(client, "Tell me of rivers.", first, "And of lakes?") for _ in range(2)]
    assert again[0] == again[1]


def test_a_prompt_beyond_the_context_is_a_400(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        _ask(client, "word " * 2000)
    assert refused.value.code == "context_length_exceeded"
