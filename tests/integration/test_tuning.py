"""`tune` on real tiny models: what it chooses is consistent with its table, kept, used, explained and forgotten."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from foundry_lite.catalog.recipe import Precision, recipe_for
from foundry_lite.catalog.report import Candidate, Quality, Report, TextLoss
from foundry_lite.cli.app import app
from foundry_lite.cli.faults import exit_code
from foundry_lite.errors import FoundryError
from foundry_lite.store.manifest import read_manifest, write_manifest
from tests import tiny_model
from tests.support import COMMAND, Daemon, cli, environment

BRIEF = ("--prompt-tokens", "16", "--new-tokens", "8", "--streams", "2", "--rounds", "2", "--no-build")
FAST, SLOW, BROKEN = (recipe_for(one) for one in (Precision.FP32, Precision.INT8, Precision.INT4))


def _report(folder: Path, top1: float) -> None:
    """Write what a build would have measured, as the build writes it."""
    manifest = read_manifest(folder)
    quality = Quality(neutral=TextLoss(100, 9.0, 9.0, 0.001, 0.01, top1))
    report = Report(manifest.variant, (Candidate(manifest.recipe, 1, quality),))
    (folder / "report.json").write_bytes(msgspec.json.encode(report))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in three variants: one that works harder, and is newer; and one that the gate refuses."""
    home = tmp_path_factory.mktemp("tuned")
    tiny_model.install(home, "mine", endless=True, context=64, recipe=FAST)
    _report(tiny_model.install(home, "mine", endless=True, context=64, work=3000, recipe=SLOW), 0.99)
    _report(tiny_model.install(home, "mine", endless=True, context=64, recipe=BROKEN), 0.2)
    slow = home / "models" / "mine" / SLOW.variant
    write_manifest(slow, msgspec.structs.replace(read_manifest(slow), created="2099-01-01T00:00:00+00:00"))
    return home


@pytest.fixture(scope="module")
def tuned(home: Path) -> dict[str, Any]:
    result = cli(home, "tune", "mine", *BRIEF, "--threads", "1", "--json")
    assert result.returncode == 0, result.stderr
    assert "round 2/2: cpu-fp32 with 1 thread: " in result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_table_has_every_candidate_with_figures_of_every_round(tuned: dict[str, Any]) -> None:
    choice = tuned["choice"]
    assert {one["variant"] for one in choice["table"]} == {"cpu-fp32", "cpu-int4", "cpu-int8"}
    for one in choice["table"]:
        assert (one["provider"], one["threads"]) == ("cpu", 1)
        measured = one["measured"]
        assert len(one["ttft_rounds"]) == len(one["system_rounds"]) == 2
        assert min(one["system_rounds"]) <= measured["system_tokens_per_s"] <= max(one["system_rounds"])
        assert (measured["streams"], measured["prompt_tokens"], measured["new_tokens"]) == (2, 16, 8)
        assert measured["peak_bytes"] >= 10_000_000
        assert measured["command"].startswith("FOUNDRY_LITE_THREADS=1 ")


def test_the_choice_is_one_that_the_gate_lets_through(tuned: dict[str, Any]) -> None:
    choice = tuned["choice"]
    by_name = {one["variant"]: one for one in choice["table"]}
    assert choice["variant"] in ("cpu-fp32", "cpu-int8")
    assert tuned["model"] == f"mine:{choice['variant']}"
    assert choice["reason"].startswith(choice["variant"])
    assert "20.0%" in by_name["cpu-int4"]["refused"][0]
    assert by_name["cpu-int4"]["refused"][0].endswith("85% are needed")
    assert "refused" not in by_name[choice["variant"]]
    assert tuned["is_of_this_machine"]


def test_the_choice_is_shown_with_its_reason(home: Path, tuned: dict[str, Any]) -> None:
    shown = cli(home, "show", "mine", "--why")
    assert tuned["choice"]["reason"] in shown.stdout
    assert "refused  cpu-int4 with 1 thread: " in shown.stdout
    assert json.loads(cli(home, "show", "mine", "--why", "--json").stdout) == tuned
    other = cli(home, "show", "mine:cpu-int4", "--why")
    assert f"'mine' means {tuned['model']}, chosen by 'tune'" in other.stdout


def test_serve_uses_the_choice_and_says_why_a_provider_is_not_the_one_that_was_asked_for(
    home: Path, tuned: dict[str, Any]
) -> None:
    daemon = Daemon(home, FOUNDRY_LITE_PROVIDER="qnn")
    ask = daemon.client().chat.completions.create
    said = ask(model="mine", max_tokens=3, messages=[{"role": "user", "content": "hi"}])
    assert said.choices[0].message.content == "abc"
    loaded = daemon.get("/api/ps")["models"]
    listed = cli(home, "ps", "--port", str(daemon.port))
    log = daemon.stop()
    assert [(one["model"], one["provider"]) for one in loaded] == [(tuned["model"], "cpu")]
    assert loaded[0]["fallback_reason"].startswith("qnn: ")
    assert f"{tuned['model']} runs on the CPU: qnn: " in listed.stderr
    assert f"{tuned['model']} runs on the CPU: qnn: " in log


def test_run_falls_back_aloud_and_bench_not_at_all(home: Path) -> None:
    ran = cli(home, "run", "mine:cpu-fp32", "hi", "--max-tokens", "3", "--provider", "qnn")
    assert (ran.returncode, ran.stdout) == (0, "abc\n")
    assert "warning: the CPU computes: qnn: " in ran.stderr
    assert "Traceback" not in ran.stderr
    benched = cli(home, "bench", "mine:cpu-fp32", "--provider", "qnn", *BRIEF[:4])
    assert (benched.returncode, benched.stdout) == (7, "")
    assert "QNN" in benched.stderr


def test_demands_that_nothing_meets_change_nothing_and_name_the_nearest(home: Path, tuned: dict[str, Any]) -> None:
    file = home / "choices" / "mine.json"
    before = file.read_bytes()
    result = cli(home, "tune", "mine:cpu-fp32", *BRIEF, "--threads", "1", "--max-memory", "1MiB")
    assert (result.returncode, result.stdout) == (6, "")
    assert "the nearest is cpu-fp32 with 1 thread: it takes " in result.stderr
    assert "1 MB are allowed" in result.stderr
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["mine.json"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_changes_nothing_and_leaves_no_process(
    home: Path, tuned: dict[str, Any], number: signal.Signals
) -> None:
    before = (home / "choices" / "mine.json").read_bytes()
    command = [*COMMAND, "tune", "mine:cpu-fp32", *BRIEF, "--rounds", "1000", "--threads", "1"]
    with subprocess.Popen(command, env=environment(home), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("round 1/1000: ")
        process.send_signal(number)
        assert "Traceback" not in process.stderr.read()  # to its end, where nobody holds the pipe any more
    assert process.returncode == 130
    assert [path.name for path in (home / "choices").iterdir()] == ["mine.json"]
    assert (home / "choices" / "mine.json").read_bytes() == before


def test_a_candidate_that_cannot_be_loaded_is_a_line_of_the_table(home: Path) -> None:
    tiny_model.install(home, "half")
    whole = tiny_model.install(home, "half", recipe=SLOW)
    (whole / "genai_config.json").write_text("{}")
    once = (*BRIEF[:-3], "--rounds", "1", "--no-build")
    choice = json.loads(cli(home, "tune", "half", *once, "--threads", "1", "--json").stdout)["choice"]
    failed = {one["variant"]: one.get("failed", "") for one in choice["table"]}
    assert choice["variant"] == "cpu-fp32"
    assert "genai_config.json" in failed["cpu-int8"]
    assert failed["cpu-fp32"] == ""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("nothing",), 3, "no model is called 'nothing'"),
        (("mine@x",), 2, "is an adapter"),
        (("mine", "--variants", "cpu-int5"), 2, "'cpu-int5' is no variant"),
        (("mine:cpu-int4", "--variants", "cpu-int8"), 2, "names a variant already"),
        (("mine", "--variants", "cpu-fp16", "--no-build"), 2, "none of the variants cpu-fp16 of 'mine' is installed"),
        (("mine", "--max-memory", "much"), 2, "must be a size"),
        (("mine", "--max-ttft", "500"), 2, "is no time"),
        (("mine", "--threads", "0"), 2, "is not a list of numbers"),
        (("mine", "--providers", "gpu"), 2, "providers are cpu, cuda"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_runs(
    home: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    result = CliRunner().invoke(app, ["tune", *arguments], env=environment(home))
    error = result.exception
    said = error.message if isinstance(error, FoundryError) else result.stderr
    assert says in " ".join(said.replace("│", " ").split())
    assert (exit_code(error) if isinstance(error, FoundryError) else result.exit_code) == code
    assert result.stdout == ""
    assert "round 1" not in result.stderr


def test_devices_lists_the_cpu_as_usable(home: Path) -> None:
    found = json.loads(cli(home, "devices", "--json").stdout)
    assert found["providers"][0]["name"] == "cpu"
    assert found["providers"][0]["usable"]
    assert found["machine"]["cores"] >= 1
