"""Bodies of embeddings and reranking, which texts are encoded together, and what becomes of an encoder's output."""

from __future__ import annotations

import base64
import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from foundry_lite.catalog.encoder import Activation, Pooling, read_encoder
from foundry_lite.embedding import Encoded, EncodeRequest, EncodeTimings, Purpose
from foundry_lite.engine.encoder.batching import Row, Waiting
from foundry_lite.engine.encoder.pooling import normalise, pool, score, shorten
from foundry_lite.engine.encoder.session import EncoderSession
from foundry_lite.engine.encoder.tokenizer import EncoderText
from foundry_lite.errors import InvalidRequest
from foundry_lite.protocol import embeddings, rerank
from foundry_lite.protocol.embeddings import EmbeddingList, decode_embedding, write_embedding_list, write_embeddings
from foundry_lite.protocol.rerank import decode_rerank, write_reranking
from tests import tiny_encoder
from tests.support import served
from tests.tiny_encoder import LONGEST, WIDTH, ids_of

EMBED: dict[str, Any] = {"model": "m", "input": "a"}
RERANK: dict[str, Any] = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}]}


def body(base: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({**base, **fields}).encode()


def test_every_kind_of_input_is_read() -> None:
    assert decode_embedding(body(EMBED)).request == EncodeRequest(texts=("a",), is_list=False)
    assert decode_embedding(body(EMBED, input=["a", "b"])).request == EncodeRequest(texts=("a", "b"))
    assert decode_embedding(body(EMBED, input=[1, 2])).request == EncodeRequest(tokens=((1, 2),), is_list=False)
    assert decode_embedding(body(EMBED, input=[[1], [2]])).request == EncodeRequest(tokens=((1,), (2,)))


def test_the_other_fields_are_read() -> None:
    call = decode_embedding(
        body(
            EMBED,
            dimensions=3,
            encoding_format="base64",
            input_type="passage",
            truncate=True,
            keep_alive="2m",
            user="u",
        )
    )
    assert (call.is_base64, call.keep_alive) == (True, timedelta(minutes=2))
    assert (call.request.dimensions, call.request.purpose, call.request.cut) == (3, Purpose.DOCUMENT, True)
    assert decode_embedding(body(EMBED, prompt_name="query")).request.prompt == "query"
    assert not decode_embedding(body(EMBED, encoding_format=None)).is_base64


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [[1], "a"]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": [2**40]}, "input[0]"),
        ({"input": [10**30]}, "input[0]"),
        ({"input": [1.5]}, "input[0]"),
        ({"input": [True]}, "input[0]"),
        ({"input": None}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"dimensions": -1}, "dimensions"),
        ({"modality": "image"}, "modality"),
        ({"dimensions": 1.5}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"input_type": "clustering"}, "input_type"),
        ({"input_type": "query", "prompt_name": "query"}, "input_type"),
        ({"input": [1], "prompt_name": "query"}, "prompt_name"),
        ({"stream": True}, "stream"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
        ({"inputs": "a"}, "inputs"),
        ({"truncate": "END"}, "truncate"),
        ({"keep_alive": "soon"}, "keep_alive"),
    ],
)
def test_a_wrong_field_of_an_embedding_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_embedding(body(EMBED, **fields))
    assert refused.value.param == param


@pytest.mark.parametrize("text", [b'"\\ud800"', b'["\\udc00a"]', b"NaN", b"[1e999]", b'"\xff"'])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_embedding(b'{"model": "m", "input": ' + text + b"}")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"documents": ["a", 1]}, "documents[1]"),
        ({"documents": [{"text": "a", "title": "b"}]}, "documents[0].title"),
        ({"documents": [{}]}, "documents[0].text"),
        ({"query": ""}, "query"),
        ({"query": ["a"]}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"rank_fields": ["text"]}, "rank_fields"),
        ({"top_k": 3}, "top_k"),
    ],
)
def test_a_wrong_field_of_a_reranking_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_rerank(body(RERANK, **fields))
    assert refused.value.param == param


@pytest.mark.parametrize("module", [embeddings, rerank])
def test_what_is_known_and_not_supported_is_no_field(module: Any) -> None:
    kinds = {
        "foundry_lite.protocol.embeddings": embeddings.EmbeddingBody,
        "foundry_lite.protocol.rerank": rerank.RerankBody,
    }
    assert not module.UNSUPPORTED & set(kinds[module.__name__].__struct_fields__)


def encoded_of(values: np.ndarray[Any, Any], tokens: int = 5) -> Encoded:
    return Encoded(values.astype("<f4").tobytes(), values.shape[1], tokens, EncodeTimings(0.001, 0.002, 0.003))


def test_vectors_are_written_as_they_are_in_both_forms() -> None:
    values = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    for is_base64 in (False, True):
        rows = write_embeddings(encoded_of(values), 0, 2, is_base64=is_base64)
        rows += write_embeddings(encoded_of(values), 2, 3, is_base64=is_base64)
        wire = msgspec.json.encode(write_embedding_list(served("m"), rows, encoded_of(values)))
        answer = msgspec.json.decode(wire, type=EmbeddingList)
        assert [one.index for one in answer.data] == [0, 1, 2]
        found = [
            np.frombuffer(base64.b64decode(one.embedding), "<f4") if isinstance(one.embedding, str) else one.embedding
            for one in answer.data
        ]
        assert np.array_equal(np.array(found, np.float32), values)
        assert isinstance(answer.data[0].embedding, str) == is_base64
        assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (5, 5)
        assert answer.timings.encode_ms == 3


def test_documents_come_best_first_and_as_many_as_were_asked_for() -> None:
    encoded = encoded_of(np.array([[0.25], [0.75], [0.25]]))
    call = decode_rerank(body(RERANK, documents=["a", {"text": "b"}, "c"]))
    assert [one.index for one in write_reranking("r", served("m"), call, encoded).results] == [1, 0, 2]
    call = decode_rerank(body(RERANK, documents=["a", {"text": "b"}, "c"], top_n=2, return_documents=True))
    wire = msgspec.json.decode(msgspec.json.encode(write_reranking("r", served("m"), call, encoded)))
    assert wire["results"] == [
        {"index": 1, "relevance_score": 0.75, "document": {"text": "b"}},
        {"index": 0, "relevance_score": 0.25, "document": {"text": "a"}},
    ]
    assert wire.keys() == {"id", "model", "results", "usage", "timings", "foundry_lite"}


def rows_of(request: int, *lengths: int) -> list[Row]:
    empty = [np.zeros(length, np.int64) for length in lengths]
    return [Row(request, place, ids, ids) for place, ids in enumerate(empty)]


def lengths_of(batch: list[Row]) -> list[int]:
    return [len(row.ids) for row in batch]


def test_texts_of_one_length_are_encoded_together_whosever_they_are() -> None:
    waiting = Waiting(most_tokens=100, most_rows=64)
    waiting.add(rows_of(0, 10, 50, 10))
    waiting.add(rows_of(1, 11, 51))
    assert lengths_of(waiting.take()) == [10, 10, 11]
    assert lengths_of(waiting.take()) == [50]  # both would be 102
    assert lengths_of(waiting.take()) == [51]
    assert len(waiting) == 0


def test_a_batch_is_bounded_and_one_text_is_encoded_however_long_it_is() -> None:
    waiting = Waiting(most_tokens=64, most_rows=4)
    waiting.add(rows_of(0, *[8] * 6, 500))
    assert lengths_of(waiting.take()) == [8] * 4
    assert lengths_of(waiting.take()) == [8] * 2
    assert lengths_of(waiting.take()) == [500]


def test_little_of_a_batch_is_padding() -> None:
    random.seed(1)
    waiting = Waiting()
    waiting.add(rows_of(0, *(random.randrange(3, 257) for _ in range(1000))))
    tokens = padded = batches = 0
    while len(waiting):
        lengths = lengths_of(waiting.take())
        tokens, padded, batches = tokens + sum(lengths), padded + max(lengths) * len(lengths), batches + 1
    assert tokens / padded > 0.95
    assert padded / batches > 180


def test_a_short_request_has_its_turn_at_once_though_a_huge_one_is_at_work() -> None:
    waiting = Waiting(most_tokens=512)
    waiting.add(rows_of(0, *[256] * 500))
    for _ in range(3):
        waiting.take()
    waiting.add(rows_of(1, 5))
    assert any(row.request == 1 for _ in range(2) for row in waiting.take())


def test_many_short_requests_do_not_keep_a_huge_one_from_its_share() -> None:
    waiting = Waiting(most_tokens=512)
    waiting.add(rows_of(0, *[256] * 20))
    taken = 0
    for number in range(1, 400):
        waiting.add(rows_of(number, *[40] * 13))  # as much as one batch, whenever one was taken
        taken += sum(row.request == 0 for row in waiting.take())
    assert taken == 20


def test_what_was_cancelled_is_not_encoded() -> None:
    waiting = Waiting()
    waiting.add(rows_of(0, 10, 200))
    waiting.add(rows_of(1, 10))
    waiting.drop(0)
    waiting.drop(7)
    assert [row.request for row in waiting.take()] == [1]
    assert len(waiting) == 0


@pytest.mark.parametrize("pooling", list(Pooling))
def test_a_text_has_the_same_vector_in_any_batch(tmp_path: Path, pooling: Pooling) -> None:
    folder = tiny_encoder.install(tmp_path, "tiny", pooling=pooling)
    session = EncoderSession(folder, read_encoder(folder), threads=1)
    rows = [
        Row(0, place, np.array(ids_of(text)), np.zeros(len(text) + 2, np.int64))
        for place, text in enumerate(("abc", "z" * 9))
    ]
    both = session.run(rows)
    for row, vector in zip(rows, both, strict=True):
        assert session.run([row])[0] == pytest.approx(vector, abs=1e-6)
        assert np.linalg.norm(vector) == pytest.approx(1)
    assert both[0] @ both[1] < 0.99


def test_vectors_are_cut_and_scores_stay_between_0_and_1() -> None:
    vectors = normalise(np.array([[3.0, 4.0, 12.0]], np.float32))
    assert shorten(vectors, 2, keeps_length=True) == pytest.approx(np.array([[0.6, 0.8]]))
    assert np.array_equal(shorten(vectors, 2, keeps_length=False), vectors[:, :2])
    logits = np.array([-1e4, 0, 2, 1e4], np.float32)
    assert score(logits, Activation.SIGMOID) == pytest.approx(np.array([0, 0.5, 0.880797, 1]), abs=1e-6)
    assert np.array_equal(score(logits, Activation.IDENTITY), logits)
    assert pool(np.ones((1, 2, 3), np.float16), np.array([[1, 1]]), Pooling.MEAN).dtype == np.float32


def test_what_infinitys_client_sends_by_itself_asks_for_nothing() -> None:
    embedding = {"model": "m", "input": ["a"], "dimensions": 0, "modality": "text"}
    assert decode_embedding(json.dumps(embedding).encode()).request == EncodeRequest(texts=("a",))
    reranking: dict[str, Any] = {"model": "m", "query": "a", "documents": ["b"], "return_documents": False}
    plain = decode_rerank(json.dumps(reranking).encode())
    assert decode_rerank(json.dumps({**reranking, "raw_scores": False}).encode()) == plain
    with pytest.raises(InvalidRequest) as refused:
        decode_rerank(json.dumps({**reranking, "raw_scores": True}).encode())
    assert refused.value.param == "raw_scores"


class Texts:
    """The text side of a tiny encoder."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = tiny_encoder.install(folder, "tiny", **options)
        self.text = EncoderText(self.folder, read_encoder(self.folder))

    def ids(self, *texts: str, **fields: Any) -> list[list[int]]:
        request = EncodeRequest(texts=texts, **fields)
        self.text.check(request)
        return [ids.tolist() for ids, _ in self.text.tokenize(request, 0, len(texts))]


PROMPTS = {"query": "Q:", "code": "C:"}


@pytest.mark.parametrize(
    ("fields", "before"),
    [
        ({}, "C:"),
        ({"prompt": "query"}, "Q:"),
        ({"prompt": ""}, ""),
        ({"purpose": Purpose.QUERY}, "Q:"),
        ({"purpose": Purpose.DOCUMENT}, ""),
    ],
)
def test_the_models_own_prompts_are_put_before_texts(tmp_path: Path, fields: dict[str, Any], before: str) -> None:
    texts = Texts(tmp_path, prompts=PROMPTS, default_prompt="code")
    assert texts.ids("a", **fields) == [ids_of(f"{before}a")]


def test_what_would_be_read_is_counted_with_the_default_prompt_and_what_is_there_without(tmp_path: Path) -> None:
    texts = Texts(tmp_path, prompts=PROMPTS, default_prompt="code")
    assert texts.text.encode("a", as_input=True) == texts.ids("a")[0] == ids_of("C:a")
    assert texts.text.encode("a", as_input=False) == ids_of("a")[1:-1]
    with pytest.raises(InvalidRequest) as refused:
        texts.text.encode("ab " * (1 << 15), as_input=False)
    assert refused.value.code == "context_length_exceeded"


def test_a_prompt_that_the_model_has_not_is_refused_and_those_it_has_are_named(tmp_path: Path) -> None:
    texts = Texts(tmp_path / "with", prompts=PROMPTS)
    with pytest.raises(InvalidRequest, match="'code', 'query'") as refused:
        texts.ids("a", prompt="passage")
    assert refused.value.param == "prompt_name"
    without = Texts(tmp_path / "without")
    for purpose in Purpose:
        with pytest.raises(InvalidRequest, match="none") as refused:
            without.ids("a", purpose=purpose)
        assert refused.value.param == "input_type"


def test_a_text_that_is_too_long_is_refused_by_name_or_cut_with_its_own_end(tmp_path: Path) -> None:
    texts = Texts(tmp_path)
    fits, long = "a" * (LONGEST - 2), "b" * (LONGEST - 1)
    assert texts.ids(fits) == [ids_of(fits)]
    with pytest.raises(
        InvalidRequest, match=rf"maximum context length is {LONGEST} tokens.*has {LONGEST + 1} tokens"
    ) as refused:
        texts.ids(fits, long)
    assert (refused.value.param, refused.value.code) == ("input[1]", "context_length_exceeded")
    assert texts.ids(long, fits, cut=True) == [ids_of(long[:-1]), ids_of(fits)]


@pytest.mark.parametrize("text", ["c" * 4_000_000, "word " * 800_000])
def test_of_a_text_that_is_far_too_long_only_the_beginning_is_looked_at(tmp_path: Path, text: str) -> None:
    texts = Texts(tmp_path)
    with pytest.raises(InvalidRequest, match="more than") as refused:
        texts.ids(text, is_list=False)
    assert refused.value.param == "input"
    assert texts.ids(text, cut=True) == [ids_of(text[: LONGEST - 2])]


def test_token_ids_are_taken_as_they_are_and_must_be_the_models(tmp_path: Path) -> None:
    texts = Texts(tmp_path, prompts=PROMPTS, default_prompt="code")
    request = EncodeRequest(tokens=((5, 6), (7,)))
    assert [ids.tolist() for ids, _ in texts.text.tokenize(request, 0, 2)] == [[5, 6], [7]]
    vocabulary = texts.text.vocabulary
    for tokens in (((1,), (2, vocabulary)), ((1,), (2, -1))):
        with pytest.raises(InvalidRequest, match=f"this model has {vocabulary}") as refused:
            texts.text.tokenize(EncodeRequest(tokens=tokens), 0, 2)
        assert refused.value.param == "input[1][1]"
    with pytest.raises(InvalidRequest, match="has 41 tokens"):
        texts.text.tokenize(EncodeRequest(tokens=((1,) * 41,)), 0, 1)
    cut = texts.text.tokenize(EncodeRequest(tokens=((1,) * 41,), cut=True), 0, 1)
    assert len(cut[0][0]) == LONGEST


def test_more_dimensions_than_there_are_are_refused(tmp_path: Path) -> None:
    texts = Texts(tmp_path)
    texts.ids("a", dimensions=WIDTH)
    with pytest.raises(InvalidRequest, match=f"more than the {WIDTH}") as refused:
        texts.ids("a", dimensions=WIDTH + 1)
    assert refused.value.param == "dimensions"


def test_a_document_stands_beside_the_query_and_is_cut_by_its_own_tokens(tmp_path: Path) -> None:
    texts = Texts(tmp_path, reranks=True)
    request = EncodeRequest(texts=("bcd", "e"), query="a", document_tokens=2, field="documents")
    texts.text.check(request)
    (first, kinds), (second, _) = texts.text.tokenize(request, 0, 2)
    assert first.tolist() == [*ids_of("a"), *ids_of("bc")[1:]]
    assert second.tolist() == [*ids_of("a"), *ids_of("e")[1:]]
    assert kinds.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_pair_that_is_too_long_is_refused_or_its_longer_half_is_cut(tmp_path: Path) -> None:
    texts = Texts(tmp_path, reranks=True)
    with pytest.raises(InvalidRequest) as refused:
        texts.ids("a", "b" * 40, query="q", field="documents")
    assert refused.value.param == "documents[1]"
    [cut] = texts.ids("b" * 100, query="q", cut=True)
    assert cut == [*ids_of("q"), *ids_of("b" * (LONGEST - 4))[1:]]
    for query in ("q" * 40, "q" * 100_000):
        with pytest.raises(InvalidRequest) as refused:
            texts.ids("b", query=query)
        assert refused.value.param == "query"
        assert len(texts.ids("b", query=query, cut=True)[0]) == LONGEST


def test_a_request_is_tokenised_in_pieces(tmp_path: Path) -> None:
    texts = Texts(tmp_path)
    short, long = EncodeRequest(texts=("a",) * 150), EncodeRequest(texts=("a" * 30_000,) * 3)
    assert [texts.text.chunk(short, start) for start in (0, 64, 128)] == [64, 128, 150]
    assert [texts.text.chunk(long, start) for start in (0, 1, 2)] == [1, 2, 3]
    tokens = EncodeRequest(tokens=((1,),) * 70)
    assert [texts.text.chunk(tokens, start) for start in (0, 64)] == [64, 70]
