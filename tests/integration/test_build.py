"""Builds from end to end with the real builder: jobs, what is kept, kills, variants, and builds over HTTP."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.store.manifest import Manifest
from foundry_lite.store.store import Store
from tests import source_model
from tests.support import COMMAND, Daemon, cli, environment, eventually

VARIANTS = ("--variant", "cpu-int8-b128", "--variant", "cpu-fp32")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source_model.write(tmp_path_factory.mktemp("sources") / "qwen2", "Qwen2", hidden_size=128)


@pytest.fixture(scope="module")
def home(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store into which two variants of the source were built as ``mine``, undisturbed."""
    home = tmp_path_factory.mktemp("built")
    result = cli(home, "build", str(source), "--name", "mine", *VARIANTS, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["models"] == ["mine:cpu-int8-b128", "mine:cpu-fp32"]
    return home


def manifest(home: Path, model: str) -> Manifest:
    return Store(home).resolve(parse_reference(model)).manifest


def last_job(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli(home, "jobs", "show", "last", "--json").stdout)
    return found


def test_a_job_tells_every_step_with_its_log(home: Path) -> None:
    job = last_job(home)
    assert (job["state"], job["installed"]) == ("done", ["mine:cpu-int8-b128", "mine:cpu-fp32"])
    names = [one["name"] for one in job["steps"]]
    assert names == ["look", "hash", "normalize", "export", "reference", "quantize", "check", "quantize", "check",
                     "measure", "measure", "install"]  # fmt: skip
    assert all(one["seconds"] is not None and not one["is_kept"] for one in job["steps"])
    shown = cli(home, "jobs", "show", "last").stdout
    assert "cpu-int8-b128" in shown
    assert "Saving" in cli(home, "jobs", "logs", "last", "--step", "export").stdout
    assert "mine:cpu-fp32" in cli(home, "jobs", "ls").stdout
    unknown = cli(home, "jobs", "show", "nothing")
    assert (unknown.returncode, "hint:" in unknown.stderr) == (3, True)


def test_a_variant_has_its_papers_and_they_agree(home: Path) -> None:
    shown = json.loads(cli(home, "show", "mine:cpu-int8-b128", "--verify", "--json").stdout)
    own = shown["manifest"]
    assert {"card.toml", "report.json", "model_card.md", "sbom.cdx.json"} <= {one["path"] for one in own["files"]}
    artifact = Store(home).resolve(parse_reference("mine:cpu-int8-b128"))
    report = json.loads((artifact.folder / "report.json").read_bytes())
    assert [one["recipe"]["precision"] for one in report["candidates"]] == ["int8", "fp32"]
    quality, measured = report["candidates"][0]["quality"], report["candidates"][0]["measured"][0]
    assert 0.6 < quality["neutral"]["top1"] < 1
    assert measured["decode_tokens_per_s"] > 0
    assert measured["peak_bytes"] > artifact.manifest.size_bytes
    assert report["candidates"][1]["quality"]["neutral"]["kl_mean"] < 1e-4


def test_a_verdict_is_kept_for_this_engine_these_libraries_and_this_processor(home: Path) -> None:
    records = [json.loads(path.read_bytes()) for path in home.glob("build/cache/check-*/step.json")]
    assert len(records) >= 2
    for one in records:
        libraries = one["inputs"]["made_by"]["libraries"]["own"]
        assert libraries["onnxruntime"] == importlib.metadata.version("onnxruntime")
        assert one["inputs"]["kernels"]
    keys = {json.loads(path.read_bytes())["inputs"]["made_by"]["code"] for path in home.glob("build/cache/*/step.json")}
    assert len(keys) == 6  # each kind of step is made by its own code


def test_a_repeat_does_nothing_again_and_another_recipe_only_what_is_new(home: Path) -> None:
    before = manifest(home, "mine:cpu-fp32").build_digest
    again = cli(home, "build", "mine", *VARIANTS)
    assert again.returncode == 0, again.stderr
    kept = [one["name"] for one in last_job(home)["steps"] if one["is_kept"]]
    assert kept == ["normalize", "export", "reference", "quantize", "check", "quantize", "check", "measure", "measure"]
    assert manifest(home, "mine:cpu-fp32").build_digest == before
    other = cli(home, "build", "mine", "--variant", "cpu-bf16")
    assert other.returncode == 0, other.stderr
    steps = last_job(home)["steps"]
    assert [one["name"] for one in steps if not one["is_kept"]] == [
        "look", "hash", "quantize", "check", "measure", "measure", "install"
    ]  # fmt: skip
    own = [str(one.ref) for one in Store(home).scan().artifacts if not one.is_embedded]
    assert own == ["mine:cpu-bf16", "mine:cpu-fp32", "mine:cpu-int8-b128"]


def test_a_kill_at_any_step_loses_only_that_step_and_the_end_is_the_same(
    home: Path, source: Path, tmp_path: Path
) -> None:
    command = ("build", str(source), "--name", "mine", "--variant", "cpu-int8-b128")
    for step in ("export", "check"):
        process = subprocess.Popen(
            [*COMMAND, *command], env=environment(tmp_path), stderr=subprocess.DEVNULL, start_new_session=True
        )
        eventually(lambda step=step: list(tmp_path.glob(f"build/work/{step}-*")), seconds=60)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _kill_tools(tmp_path)
        assert last_job(tmp_path)["state"] == "interrupted"
        assert not list(tmp_path.glob("models/*"))
    resumed = cli(tmp_path, "jobs", "resume", "last", "--json")
    assert resumed.returncode == 0, resumed.stderr
    ours, undisturbed = (manifest(one, "mine:cpu-int8-b128") for one in (tmp_path, home))
    assert ours.build_digest == undisturbed.build_digest != ""
    assert ours.built_files == undisturbed.built_files
    assert {one["is_kept"] for one in last_job(tmp_path)["steps"] if one["name"] == "export"} == {True}


def _kill_tools(home: Path) -> None:
    """A tool runs in a session of its own; a power cut would have ended it too."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TMPDIR={home}/build/".encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)
        except (OSError, ProcessLookupError):
            continue


def test_other_weights_do_not_join_a_model(home: Path, tmp_path: Path) -> None:
    other = source_model.write(tmp_path / "other", "Qwen2", hidden_size=64)
    result = cli(home, "build", str(other), "--name", "mine", "--variant", "cpu-fp32")
    assert result.returncode == 4
    assert "--force" in result.stderr


def with_another_template(source: Path, folder: Path) -> Path:
    """The same weights with another chat template."""
    other = Path(shutil.copytree(source, folder))
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + "{# another #}")
    return other


def test_another_template_does_not_join_a_model_of_the_same_weights(home: Path, source: Path, tmp_path: Path) -> None:
    before = manifest(home, "mine:cpu-fp32")
    other = with_another_template(source, tmp_path / "other")
    result = cli(home, "build", str(other), "--name", "mine", "--variant", "cpu-fp32")
    assert result.returncode == 4, result.stderr
    assert "chat_template.jinja differs" in result.stderr
    assert "--force" in result.stderr
    assert manifest(home, "mine:cpu-fp32") == before


def test_of_two_imports_of_one_name_at_once_the_second_replaces_nothing_and_is_told(
    home: Path, source: Path, tmp_path: Path
) -> None:
    other, here = with_another_template(source, tmp_path / "other"), tmp_path / "home"
    shutil.copytree(home / "build", here / "build")  # of the first, every step is done
    with FileLock(here / "build" / "lock"):  # both have looked at the name before either has its turn
        processes = [
            subprocess.Popen(
                [*COMMAND, "import", str(path), "--name", "mine", "--precision", "fp32"],
                env=environment(here), stderr=subprocess.PIPE, text=True,
            )
            for path in (source, other)
        ]  # fmt: skip
        eventually(lambda: len(list(here.glob("jobs/*/job.json"))) == 2, seconds=60)
    told = [process.communicate(timeout=120)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 4], told
    refused = told[codes.index(4)]
    assert "was installed while this one was being built, of another source: chat_template.jinja differs" in refused
    assert "--force" in refused
    winner = (source, other)[codes.index(0)]
    template = (here / "models" / "mine" / "cpu-fp32" / "chat_template.jinja").read_text()
    assert template == (winner / "chat_template.jinja").read_text()


def test_a_kill_between_the_installation_and_the_record_is_resumed_to_a_good_end(
    home: Path, source: Path, tmp_path: Path
) -> None:
    shutil.copytree(home / "build", tmp_path / "build")
    first = cli(tmp_path, "import", str(source), "--name", "mine", "--precision", "fp32")
    assert first.returncode == 0, first.stderr
    before = manifest(tmp_path, "mine")
    record = next(tmp_path.glob("jobs/*/job.json"))
    record.write_text(record.read_text().replace('"done"', '"running"'))
    resumed = cli(tmp_path, "jobs", "resume", "last")
    assert resumed.returncode == 0, resumed.stderr
    assert "had been installed already" in resumed.stderr
    assert manifest(tmp_path, "mine") == before
    record.write_text(record.read_text().replace('"done"', '"running"').replace('"fp32"', '"fp16"'))
    other = cli(tmp_path, "jobs", "resume", "last")
    assert other.returncode == 4, other.stderr
    assert "was installed while this one was being built" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("mine",), 2, "--auto"),
        (("mine", "--variant", "cpu-int5"), 2, "no variant"),
        (("./nowhere", "--name", "x", "--auto"), 2, "does not exist"),
        (("mine", "--variant", "cpu-fp32", "--eval", "/nonexistent.jsonl"), 2, "nonexistent"),
    ],
)
def test_what_cannot_be_ordered_is_refused_at_once(
    home: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    result = cli(home, "build", *arguments)
    assert (result.returncode, says in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.stderr


class Admin:
    """An administrator at the daemon's door."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self._url = daemon.url
        self._token = (home / "admin-token").read_text().strip()

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {self._token if token is None else token}"}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["content-type"] = "application/json"
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                text = response.read().decode()
                return response.status, text if path.endswith("/logs") else json.loads(text)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)["error"]


@pytest.fixture(scope="module")
def admin(home: Path) -> Iterator[Admin]:
    daemon = Daemon(home)
    yield Admin(daemon, home)
    log = daemon.stop()
    assert "Traceback" not in log, log


def test_builds_over_http_need_the_token_which_only_the_owner_can_read(admin: Admin, home: Path) -> None:
    assert (home / "admin-token").stat().st_mode & 0o077 == 0
    for token in ("", "guess", "é"):
        for method, path in (("GET", "/api/jobs"), ("POST", "/api/jobs"), ("DELETE", "/api/jobs/x")):
            assert admin.ask(method, path, {} if method == "POST" else None, token=token)[0] == 401


def test_a_build_over_http_runs_beside_the_daemon_and_is_followed(admin: Admin, home: Path) -> None:
    status, job = admin.ask("POST", "/api/jobs", {"model": "mine", "variants": ["cpu-fp16"]})
    assert status == 202, job
    path = f"/api/jobs/{job['id']}"
    eventually(lambda: admin.ask("GET", path)[1]["state"] not in ("queued", "running"), seconds=60)
    done = admin.ask("GET", path)[1]
    assert (done["state"], done["installed"]) == ("done", ["mine:cpu-fp16"]), done
    assert "quantize" in admin.ask("GET", f"{path}/logs")[1]
    assert job["id"] in [one["id"] for one in admin.ask("GET", "/api/jobs")[1]["jobs"]]
    assert manifest(home, "mine:cpu-fp16").source.kind == "huggingface-folder"


def test_a_build_over_http_can_be_cancelled(admin: Admin, source: Path) -> None:
    status, job = admin.ask("POST", "/api/jobs", {"model": str(source), "name": "late", "variants": ["cpu-int4-b16"]})
    assert status == 202, job
    path = f"/api/jobs/{job['id']}"
    eventually(lambda: admin.ask("GET", path)[1]["state"] == "running", seconds=30)
    assert admin.ask("DELETE", path)[0] == 202
    eventually(lambda: admin.ask("GET", path)[1]["state"] == "cancelled", seconds=30)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "mine", "variants": ["cpu-int4"], "auto": True}, 400, "auto"),
        ({"model": "mine", "colour": 1}, 400, "colour"),
        ({"model": "mine", "gate": {"max_kl": "x"}}, 400, "gate.max_kl"),
        ({"variants": []}, 400, "model"),
        ({"model": "/nowhere", "name": "x"}, 400, "model"),
        ({"model": "nobody"}, 404, "model"),
    ],
)
def test_a_wrong_order_over_http_names_its_field(admin: Admin, body: dict[str, Any], status: int, param: str) -> None:
    code, error = admin.ask("POST", "/api/jobs", body)
    assert (code, error["param"]) == (status, param)
    assert admin.ask("GET", "/api/jobs/nothing")[0] == 404
