"""The command line as a person or a script meets it: words, JSON, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny_model
from tests.support import cli
from tests.tiny_model import ALPHABET


def test_run_prints_the_answer_and_nothing_else_on_stdout(home: Path) -> None:
    result = cli(home, "run", "alphabet", "hi")
    assert (result.returncode, result.stdout) == (0, ALPHABET + "\n")


def test_run_reads_a_prompt_from_stdin(home: Path) -> None:
    assert cli(home, "run", "alphabet", stdin="hi\n").stdout == ALPHABET + "\n"


def test_run_gives_json_with_usage_and_finish(home: Path) -> None:
    answer = json.loads(cli(home, "run", "alphabet", "hi", "--max-tokens", "4", "--json").stdout)
    assert answer["content"] == "abcd"
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 4


def test_a_tools_file_is_read_and_one_that_is_no_list_of_tools_is_refused(tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([{"type": "function", "function": {"name": "f"}}]))
    tiny_model.install(tmp_path, "mute", answer="xyz")
    assert cli(tmp_path, "run", "mute", "hi", "--tools", str(tools)).stdout == "xyz\n"
    tools.write_text('{"name": "f"}')
    refused = cli(tmp_path, "run", "mute", "hi", "--tools", str(tools))
    assert refused.returncode == 2
    assert "is no list of tools" in refused.stderr


def test_list_and_show_have_a_json_form_with_the_same_facts(home: Path) -> None:
    listed = json.loads(cli(home, "list", "--json").stdout)["models"]
    assert {"alphabet:cpu-fp32", "slow:cpu-fp32", "slow-too:cpu-fp32"} <= {one["model"] for one in listed}
    assert "alphabet:cpu-fp32" in cli(home, "list").stdout
    shown = json.loads(cli(home, "show", "alphabet", "--json").stdout)
    assert shown["card"]["context_length"] == 512
    assert "512 tokens" in cli(home, "show", "alphabet").stdout


def test_rm_removes_one_model_and_says_how_much_it_freed(tmp_path: Path) -> None:
    tiny_model.install(tmp_path, "going")
    tiny_model.install(tmp_path, "staying")
    removed = json.loads(cli(tmp_path, "rm", "going", "--yes", "--json").stdout)
    assert removed["removed"] == ["going:cpu-fp32"]
    assert removed["freed_bytes"] > 100_000
    names = {one["name"] for one in json.loads(cli(tmp_path, "list", "--json").stdout)["models"]}
    assert "staying" in names
    assert "going" not in names


def test_show_verify_finds_a_changed_byte(tmp_path: Path) -> None:
    folder = tiny_model.install(tmp_path, "changed")
    graph = folder / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)
    assert cli(tmp_path, "show", "changed").returncode == 0
    result = cli(tmp_path, "show", "changed", "--verify")
    assert result.returncode == 7
    assert "model.onnx" in result.stderr


def test_bench_measures_what_it_was_asked_for(home: Path) -> None:
    arguments = ("--prompt-tokens", "16,64", "--new-tokens", "80", "--concurrency", "1,3", "--rounds", "2")
    report = json.loads(cli(home, "bench", "alphabet", *arguments, "--json").stdout)
    cells = [(row["prompt_tokens"], row["concurrency"], row["requests"]) for row in report["rows"]]
    assert cells == [(16, 1, 2), (16, 3, 6), (64, 1, 2), (64, 3, 6)]
    for row in report["rows"]:
        for latency in (row["ttft_ms"], row["gap_ms"]):
            assert 0 <= latency["low"] <= latency["median"] <= latency["p95"] <= latency["high"]
            assert latency["high"] > 0
        assert row["decode_tokens_per_s"]["low"] > 0
        assert row["cached_tokens"] == 0  # its vocabulary is small: the same prompts again would come out of the cache
    assert report["peak_bytes"] >= report["loaded_bytes"] > 10_000_000
    assert report["versions"]["onnxruntime"]
    table = cli(home, "bench", "alphabet", *arguments[:4], "--streams", "1,3", "--rounds", "2")
    assert "decode/s" in table.stdout
    assert "medians of 2 rounds" in table.stdout
    assert "reused" not in table.stdout


def test_bench_measures_again_on_a_busy_machine_and_says_that_it_was_busy(tmp_path: Path) -> None:
    tiny_model.install(tmp_path, "slow", endless=True, work=2000)
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        arguments = ("--prompt-tokens", "16", "--new-tokens", "64", "--streams", "1", "--rounds", "1")
        report = json.loads(cli(tmp_path, "bench", "slow", *arguments, "--json").stdout)
        table = cli(tmp_path, "bench", "slow", *arguments)
    finally:
        for one in burners:
            one.kill()
            one.wait()
    pressure = report["rows"][0]["pressure"]
    assert pressure["others"] + pressure["stolen"] > 0.1
    assert pressure["load"] is None or pressure["load"] > 0
    assert report["rows"][0]["requests"] == 1  # the calmer one of two rounds
    assert "disturbed: others took" in table.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("run", "nothing", "hi"), 3, "no model is called 'nothing'"),
        (("run", "../etc", "hi"), 2, "is no model reference"),
        (("show", "alphabet:cpu-int4"), 3, "Did you mean alphabet:cpu-fp32?"),
        (("run", "alphabet", "x" * 600), 2, "maximum context length is 512 tokens"),
        (("bench", "alphabet", "--prompt-tokens", "9000"), 2, "do not fit"),
        (("bench", "alphabet", "--concurrency", "none"), 2, "is not a list of numbers"),
        (("import", "/nowhere", "--name", "x"), 5, "does not exist"),
        (("import", "/nowhere", "--name", "x:y"), 2, "names a variant"),
        (("import", "/nowhere", "--name", "x", "--block-size", "33"), 2, "33 is not one of"),
        (("ps", "--port", "1"), 8, "no daemon answers"),
        (("rm",), 2, "name one MODEL"),
        (("rm", "home-assistant", "--yes"), 3, "cannot be removed"),
        (("run",), 2, "Missing argument"),
    ],
)
def test_what_cannot_be_done_is_said_with_an_exit_code_of_its_own(
    home: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    result = cli(home, *arguments)
    assert result.returncode == code
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_wrong_setting_names_its_variable(home: Path) -> None:
    result = cli(home, "list", FOUNDRY_LITE_SLOTS="many")
    assert result.returncode == 2
    assert "FOUNDRY_LITE_SLOTS='many'" in result.stderr


def test_a_second_daemon_on_the_same_port_is_refused(home: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = cli(home, "serve", "--port", str(taken.getsockname()[1]))
    assert result.returncode == 2
    assert "cannot listen" in result.stderr


def test_version_is_printed(home: Path) -> None:
    assert cli(home, "--version").stdout.startswith("foundry-lite 0.")
