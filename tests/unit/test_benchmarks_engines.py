"""The side-by-side benchmark: its figures, its prompts, its processes, and a small run of our own engine."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tokenizers import Tokenizer

from benchmarks.peers.figures import DECODE, GAP_P50, GAP_P95, PREFILL, TOTAL, TTFT_P95, Spread, percentile
from benchmarks.peers.peers import OutputProcessor, _chat_arrivals
from benchmarks.peers.processes import HOLDS, PeerFailed, Process
from benchmarks.peers.prompts import Words
from benchmarks.peers.report import http_share
from benchmarks.peers.streaming import _decode
from benchmarks.random_model import SHAPES, _tokenizer
from tests import tiny_model
from tests.support import ROOT, environment


def test_figures_of_known_arrivals() -> None:
    one = OutputProcessor([[(0.5, 1), (0.6, 1), (0.8, 2)]], prompt_tokens=100)
    assert PREFILL.read(one) == pytest.approx(200)
    assert DECODE.read(one) == pytest.approx(3 / 0.3)
    assert TOTAL.read(one) == pytest.approx(4 / 0.8)
    assert GAP_P50.read(one) == pytest.approx(100)
    two = OutputProcessor([*one.streams, [(0.7, 1), (1.0, 1)]], prompt_tokens=100)
    assert TOTAL.read(two) == pytest.approx(6 / 1.0)
    assert GAP_P95.read(two) == pytest.approx(300)
    assert TTFT_P95.read(two) == pytest.approx(700)


def test_tokens_that_were_not_computed_are_no_prefill() -> None:
    assert PREFILL.read(OutputProcessor([[(0.5, 1)]], prompt_tokens=100, cached_tokens=90)) == pytest.approx(20)


def test_tokens_that_come_at_once_have_no_speed() -> None:
    at_once = OutputProcessor([[(0.5, 16)]], prompt_tokens=100)
    assert DECODE.read(at_once) is None
    assert GAP_P50.read(at_once) is None


def test_percentiles_are_nearest_ranks() -> None:
    assert [percentile([3.0, 1.0, 2.0, 4.0], share) for share in (0.5, 0.75, 0.95, 0.0)] == [2.0, 3.0, 4.0, 1.0]


def test_chunks_share_the_tokens_that_they_do_not_count() -> None:
    def event(text: str) -> dict[str, Any]:
        return {"choices": [{"delta": {"content": text}}]}

    usage: dict[str, Any] = {"choices": [], "usage": {"completion_tokens": 6}}
    events = [(0.1, event("")), (0.2, event("a")), (0.3, event("bc")), (0.4, event("d")), (0.5, usage)]
    assert _chat_arrivals(events) == [(0.2, 1), (0.3, 3), (0.4, 2)]


def test_events_that_chunks_cut_apart_arrive_with_their_end() -> None:
    assert _decode(
        [(1.0, b'data: {"a":'), (2.0, b' 1}\n\ndata: {"b": 2}\n\n: ping\n\n'), (3.0, b"data: [DONE]\n\n")]
    ) == [
        (2.0, {"a": 1}),
        (2.0, {"b": 2}),
    ]
    with pytest.raises(PeerFailed, match="no room"):
        _decode([(1.0, b'data: {"error": "no room"}\n\n')])


def test_a_word_is_a_token(tmp_path: Path) -> None:
    tokenizer = _tokenizer(SHAPES["tiny"])
    assert tokenizer.get_vocab_size() == SHAPES["tiny"].config["vocab_size"]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    words = Words(tmp_path / "tokenizer.json", seed=0)
    prompt = words.prompt(40, 8, 8)
    messages = words.messages(prompt, overhead=7)
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    encoded = [Tokenizer.encode(tokenizer, message["content"]).ids for message in messages]
    assert [tuple(ids) for ids in encoded] == [prompt.parts[0][7:], *prompt.parts[1:]]
    assert len(set(prompt.ids)) > 10


def test_the_share_of_http_compares_each_round_with_itself() -> None:
    assert http_share([98.0, 40.0, 100.0], [100.0, 50.0, 100.0]) == Spread(0.98, 0.8, 1.0)
    assert http_share([98.0], [100.0, 50.0]) is None
    assert http_share([], []) is None


@pytest.mark.skipif(not HOLDS, reason="no SIGSTOP here")
def test_a_peer_that_is_not_measured_has_no_processor() -> None:
    async def spin() -> tuple[float, float]:
        process = await Process.start([sys.executable, "-c", "print('ready', flush=True)\nwhile True: pass"], {})
        try:
            with process.awake():
                await process.read_line()
            before = _used(process)
            time.sleep(0.3)
            held = _used(process) - before
            with process.awake():
                time.sleep(0.3)
            return held, _used(process) - before
        finally:
            await process.stop()

    held, awake = asyncio.run(spin())
    assert held == pytest.approx(0, abs=0.02)
    assert awake > 0.05


def _used(process: Process) -> float:
    times = psutil.Process(process._process.pid).cpu_times()
    return times.user + times.system


def test_a_peer_that_dies_says_why() -> None:
    async def die() -> None:
        process = await Process.start([sys.executable, "-c", "raise SystemExit('no such model')"], {})
        try:
            await process.read_line()
        finally:
            await process.stop()

    with pytest.raises(PeerFailed, match="no such model"):
        asyncio.run(die())


def test_a_small_run_of_our_own_engine(tmp_path: Path) -> None:
    tiny_model.install(tmp_path, "tiny", endless=True)
    options = ["--home", tmp_path, "--model", "tiny", "--peers", "ours,engine,llama,nobody", "--quick", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.engines", *map(str, options), "--save", str(tmp_path)],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (saved,) = tmp_path.glob("*-engines-tiny.json")
    report = json.loads(saved.read_text())
    assert report["failures"] == {
        "llama": "it needs --gguf FILE",
        "nobody": "no such engine; there are ours, engine, llama, openvino, genai",
    }
    measured = {(row["workload"], row["figure"], row["peer"]) for row in report["rows"]}
    for peer in ("ours", "engine"):
        assert ("prompt of 64", "prefill", peer) in measured
        assert ("4 streams", "total", peer) in measured
        assert ("second turn of 256, same prefix", "TTFT", peer) in measured
    assert all(row["value"]["low"] > 0 for row in report["rows"] if row["unit"] == "tok/s")
    assert set(report["shares"]) == {"decode after 64", "4 streams"}
    assert "share of the engine's own tokens/s" in done.stdout


@pytest.mark.skipif(not HOLDS, reason="no SIGSTOP here")
def test_a_run_that_is_ended_leaves_no_engine_behind(tmp_path: Path) -> None:
    tiny_model.install(tmp_path, "tiny", endless=True)
    options = ["--home", tmp_path, "--model", "tiny", "--peers", "ours,engine", "--quick", "--rounds", "999"]
    run = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.engines", *map(str, options)],
        cwd=ROOT,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    while "round 2" not in (line := run.stderr.readline()):
        assert line, "it ended by itself"
    engines = psutil.Process(run.pid).children(recursive=True)
    assert len(engines) >= 4  # a daemon, a child, and the worker of each
    run.terminate()
    printed, _ = run.communicate(timeout=60)
    assert "all: interrupted" in printed
    assert "decode after 64" in printed
    assert not psutil.wait_procs(engines, timeout=10)[1]
