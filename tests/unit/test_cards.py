"""What is written beside a variant: that it says what is known, where from, and nothing that nobody measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from foundry_lite.catalog.card import Basis, Card, Defaults, Origin, read_card
from foundry_lite.catalog.recipe import Precision, Provider, Recipe
from foundry_lite.catalog.report import Candidate, Golden, Measured, Quality, Report, TaskScore, TextLoss
from foundry_lite.cli.commands.cards import card as card_command
from foundry_lite.conversion.build_spec import BuildSpec
from foundry_lite.conversion.evaluate.gate import Gate, judge
from foundry_lite.conversion.records.write import Facts, add_measured, describe, read_report, record_source, redescribe
from foundry_lite.conversion.sources.source_model import Kind, SourceModel
from foundry_lite.engine.tool_calls.model_format import find_voice
from foundry_lite.errors import DamagedArtifact, FoundryError
from foundry_lite.store.manifest import digest_build, read_manifest, verify_digests

INT4, KQ = Recipe(Precision.INT4, 128), Recipe(Precision.INT4, 32, mixed=True)
VERSIONS = {"foundry-lite": "0.2.0", "onnx": "1.23.2"}
COMMAND = "foundry-lite build mine --auto --eval data.jsonl"
REVISION = "0123456789abcdef0123456789abcdef01234567"


def quality(passed: int, kl: float = 0.02) -> Quality:
    return Quality(
        neutral=TextLoss(900, 12.5, 12.25, kl, 0.5, 0.94),
        task=TaskScore(passed, 80, 100),
        goldens=(Golden("Say hi.\n```sh\nx\n```", "Hi | there.", True), Golden("And?", "No.", False)),
    )


def measured(streams: int = 4) -> Measured:
    machine: dict[str, str | int] = {"processor": "Ryzen 9", "cores": 8, "system": "Linux x86_64"}
    return Measured(
        "2026-11-20T10:00:00+00:00", machine, VERSIONS, "foundry-lite tune mine", 8, "cpu", 128, 64, streams,
        12.5, 900, 55.5, 180, 0.4, 31_000_000, None,
    )  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def folder(home: Path) -> Path:
    """A variant as the build leaves it for its description, in a store."""
    folder = home / "models" / "mine" / INT4.variant
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "model.onnx.data").write_bytes(bytes(1000))
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def found(tmp_path: Path) -> SourceModel:
    """An adapter over a base that lies in the Hub's cache."""
    base = tmp_path / "models--maker--base-1b" / "snapshots" / REVISION
    adapter = tmp_path / "skill"
    for one in (base, adapter):
        one.mkdir(parents=True)
        (one / "weights.safetensors").write_bytes(one.name.encode())
        (one / "config.json").write_text("{}")
    whole = SourceModel(
        Kind.FOLDER, base, (base / "weights.safetensors", base / "config.json"), "LlamaForCausalLM", 2000, 512,
        license="llama3.2",
    )  # fmt: skip
    return SourceModel(
        Kind.ADAPTER, adapter, (adapter / "weights.safetensors", adapter / "config.json"), "LlamaForCausalLM", 50, 512,
        defaults=Defaults(temperature=0.0), license="apache-2.0", base=whole, notes=("A plain template was put in.",),
    )  # fmt: skip


@pytest.fixture
def facts(found: SourceModel) -> Facts:
    gate = Gate()
    refused = Candidate(INT4, 1500, bad := quality(70), judge(bad, gate))
    chosen = Candidate(KQ, 1700, good := quality(79), judge(good, gate))
    order = BuildSpec("mine", "skill", (INT4, KQ), gate=gate)
    report = Report(KQ.variant, (refused, chosen), "the first that passes")
    return Facts(order, found, record_source(found, "/home/ada/skill"), chosen, report, VERSIONS, COMMAND)


def card_of(folder: Path) -> Card:
    return read_card(folder / "card.toml")


def published(folder: Path) -> str:
    return (folder / "model_card.md").read_text(encoding="utf-8")


def front_matter(text: str) -> dict[str, Any]:
    """Read a model card as the Hub's own library does."""
    return dict(ModelCard(text).data.__dict__)


def test_all_five_are_there_and_the_manifest_has_the_hash_of_the_others(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    manifest = read_manifest(folder)
    verify_digests(folder, manifest)
    assert {entry.path for entry in manifest.files} == {
        "model.onnx", "model.onnx.data", "tokenizer.json",
        "card.toml", "report.json", "model_card.md", "sbom.cdx.json",
    }  # fmt: skip
    assert manifest.build_digest == digest_build(manifest.files)
    assert read_report(folder) == facts.report
    assert manifest.source.base is not None
    assert manifest.source.base.revision == REVISION
    assert facts.found.base is not None
    assert manifest.source.base.location == str(facts.found.base.folder), "what is built again needs its path"


def test_the_same_build_on_another_day_and_machine_has_the_same_digest_and_inputs(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    before, inputs = read_manifest(folder), (folder / "sbom.cdx.json").read_bytes()
    describe(folder, replace(facts, assessed="2031-01-01", machine="another one"))
    after = read_manifest(folder)
    assert "2031-01-01" in (folder / "card.toml").read_text()
    assert before.files != after.files
    assert before.build_digest == after.build_digest
    assert (folder / "sbom.cdx.json").read_bytes() == inputs
    (folder / "model.onnx").write_bytes(b"grapg")
    describe(folder, facts)
    assert read_manifest(folder).build_digest != before.build_digest


def test_the_lineage_has_each_weight_with_its_licence_and_digest(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    card = card_of(folder)
    base, adapter = card.lineage
    assert (base.origin, base.name, base.revision) == (Origin.BASE, "maker/base-1b", REVISION)
    assert (adapter.origin, adapter.name, adapter.revision) == (Origin.ADAPTER, "skill", "")
    assert len({base.digest, adapter.digest, read_manifest(folder).weights_digest}) == 3
    assert (card.license, card.parameters, card.source) == ("apache-2.0", 2000, "skill")
    assert card.notes == (
        "A plain template was put in.",
        "The weights come from several works under different licences, and all hold: llama3.2, apache-2.0.",
    )


def test_an_adapter_that_names_no_licence_carries_its_base_s(folder: Path, facts: Facts) -> None:
    silent = replace(facts, found=replace(facts.found, license="unknown"))
    describe(folder, silent)
    assert card_of(folder).license == "llama3.2"
    assert front_matter(published(folder))["license"] == "llama3.2"


def test_sizes_say_whether_they_were_measured(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    sizes = card_of(folder).sizes
    assert sizes is not None
    assert (sizes.variant, sizes.fp32, sizes.fp16) == (1007, 8000, 4000)
    assert (sizes.fp32_is, sizes.fp16_is) == (Basis.COMPUTED, Basis.COMPUTED)
    assert "| fp16 | 4,000 | computed: parameters × 2 | this variant is 74.8% smaller |" in published(folder)
    fp16 = Candidate(Recipe(Precision.FP16), 4100, quality(80))
    report = msgspec.structs.replace(facts.report, candidates=(*facts.report.candidates, fp16))
    describe(folder, replace(facts, report=report, fp32_bytes=8200))
    sizes = card_of(folder).sizes
    assert sizes is not None
    assert (sizes.fp32, sizes.fp32_is, sizes.fp16, sizes.fp16_is) == (8200, Basis.MEASURED, 4100, Basis.MEASURED)


def test_figures_are_evidence_with_date_and_machine(folder: Path, facts: Facts) -> None:
    candidate = msgspec.structs.replace(facts.candidate, measured=(measured(),))
    describe(folder, replace(facts, candidate=candidate, assessed="2026-11-19T01:02:03", machine="laptop"))
    evidence = {one.metric: one for one in card_of(folder).evidence}
    assert evidence["task_accuracy"].value == 0.79
    assert (evidence["kl_mean.neutral"].date, evidence["kl_mean.neutral"].machine) == ("2026-11-19", "laptop")
    speed = evidence["decode.cpu.threads-8.prompt-128.streams-4"]
    assert (speed.value, speed.unit, speed.date, speed.command) == (
        55.5, "tokens/s", "2026-11-20", "foundry-lite tune mine",
    )  # fmt: skip
    assert speed.machine == "Ryzen 9, 8 cores, Linux x86_64"
    assert not any(name.startswith("memory_peak") for name in evidence), "nobody measured the peak"
    assert not any(name.endswith(".own") for name in evidence), "there was no data of the user's own"


def test_checks_have_the_bounds_of_the_gate(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    checks = {one.name: (one.value, one.threshold, one.samples) for one in read_manifest(folder).checks}
    assert checks == {
        "task_kept": (0.9875, 0.95, 100),
        "top1_agreement": (0.94, 0.85, 900),
        "kl_mean": (0.02, 0.1, 900),
        "kl_p99": (0.5, 1.0, 900),
    }


def test_the_model_card_is_what_the_hub_reads(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    front = front_matter(published(folder))
    assert front["license"] == "apache-2.0"
    assert front["base_model"] == ["maker/base-1b"]
    assert (front["base_model_relation"], front["pipeline_tag"]) == ("quantized", "text-generation")
    assert {"onnx", "int4", "cpu", "adapter"} <= set(front["tags"])


def test_a_licence_that_the_hub_does_not_know_is_named(folder: Path, facts: Facts) -> None:
    describe(folder, replace(facts, found=replace(facts.found, license='Mine: "only"')))
    front = front_matter(published(folder))
    assert (front["license"], front["license_name"]) == ("other", 'Mine: "only"')


def test_the_model_card_shows_refused_candidates_with_their_reason(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    text = published(folder)
    assert "| cpu-int4-b128 | 1.5" not in text  # bytes, not kB
    refused, chosen = (next(line for line in text.splitlines() if line.startswith(f"| {v} |")) for v in
                       ("cpu-int4-b128", "cpu-int4-mixed"))  # fmt: skip
    assert "87.5% (70 of 100, source 80)" in refused
    assert "refused: it keeps 87.5% of the source's task accuracy (70 instead of 80 of 100 cases)" in refused
    assert "**chosen**" in chosen
    assert COMMAND in text
    assert "/home/ada" not in text, "where it lay on somebody's disk is nobody's business"


def test_a_variant_that_was_ordered_and_does_not_pass_is_not_called_refused(folder: Path, facts: Facts) -> None:
    describe(folder, replace(facts, candidate=facts.report.candidates[0]))
    line = next(line for line in published(folder).splitlines() if line.startswith("| cpu-int4-b128 |"))
    assert "taken as ordered; it does not pass: it keeps 87.5%" in line


def test_golden_answers_with_fences_stay_inside_theirs(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    assert "````text\nSay hi.\n```sh\nx\n```\n````\n\nanswers (the source says the same):" in published(folder)


def test_nothing_is_claimed_of_speed_that_nobody_measured(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    assert "Not measured when this was written" in published(folder)
    assert "decode/s" not in published(folder)


def test_a_variant_that_was_not_run_says_so(folder: Path, facts: Facts) -> None:
    recipe = msgspec.structs.replace(INT4, provider=Provider.CUDA)
    candidate = Candidate(recipe, 1500, Quality())
    report = Report(recipe.variant, (candidate,))
    describe(folder, replace(facts, candidate=candidate, report=report, was_run=False))
    card = card_of(folder)
    assert card.untested_here
    assert card.evidence == ()
    assert "**Untested here**: built for the provider `cuda`" in published(folder)


def test_what_is_measured_later_is_written_down_and_the_build_stays_the_same(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    before = read_manifest(folder)
    add_measured(folder, (measured(1), measured(4)))
    add_measured(folder, (measured(4),))
    manifest, report = read_manifest(folder), read_report(folder)
    verify_digests(folder, manifest)
    assert (manifest.build_digest, manifest.created) == (before.build_digest, before.created)
    costs = [one.metric for one in card_of(folder).evidence if one.metric.startswith("decode.")]
    assert costs == ["decode.cpu.threads-8.prompt-128.streams-4"], "the later takes the earlier's place"
    assert report is not None
    chosen = report.find(KQ.variant)
    assert chosen is not None
    assert chosen.measured == (measured(4),)
    assert "| cpu-int4-mixed | cpu | 8 | 4 | 12.5 | 900 | 55.5 | 180.0 |" in published(folder)


def test_a_card_with_its_author_s_words_is_published_with_them(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    before = read_manifest(folder)
    redescribe(folder, description="Feeds pets.", limits="Knows no fish.", license="MIT")
    verify_digests(folder, read_manifest(folder))
    assert read_manifest(folder).build_digest == before.build_digest
    assert "Feeds pets." in published(folder)
    assert "## Limits\n\nKnows no fish." in published(folder)
    assert front_matter(published(folder))["license"] == "mit"
    assert '"id": "MIT"' in (folder / "sbom.cdx.json").read_text()
    (folder / "report.json").unlink()
    with pytest.raises(DamagedArtifact, match=r"report\.json is missing"):
        redescribe(folder, description="", limits="", license="MIT")


def test_a_dialect_that_its_author_names_stands_in_the_card_until_another_is_named(folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    assert "dialect" not in (folder / "card.toml").read_text()
    redescribe(folder, description="", limits="", license="MIT", dialect="llama")
    redescribe(folder, description="Later.", limits="", license="MIT")
    verify_digests(folder, read_manifest(folder))
    assert card_of(folder).dialect == "llama"
    assert find_voice(folder, "<tool_call>", {}).dialect.name == "llama"


def test_a_report_that_cannot_be_read_is_damage(folder: Path) -> None:
    assert read_report(folder) is None
    (folder / "report.json").write_text('{"chosen": 3}')
    with pytest.raises(DamagedArtifact, match=r"report\.json"):
        read_report(folder)


def ask(home: Path, *arguments: str) -> str:
    """Run ``card`` as the command line does; return its stdout, or raise its error."""
    app = typer.Typer()
    app.command()(card_command)
    done = CliRunner().invoke(app, arguments, env={"FOUNDRY_LITE_HOME": str(home)}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_prints_the_card_of_the_artifact(home: Path, folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    assert ask(home, "mine") == published(folder)
    assert "Nobody has signed it off yet" in published(folder)


def test_a_sign_off_names_person_date_and_digest(home: Path, folder: Path, facts: Facts, tmp_path: Path) -> None:
    describe(folder, facts)
    said = ask(home, "mine", "--sign-off", "Ada Lovelace <ada@example.org>", "-o", str(tmp_path / "README.md"))
    assert said == ""
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    digest = read_manifest(folder).build_digest
    assert "Signed off by: Ada Lovelace <ada@example.org>\n\nOn 20" in text
    assert f"for the files above, verified then: `sha256:{digest}`" in text
    answer = json.loads(ask(home, "mine", "--json", "--sign-off", "Ada Lovelace <ada@example.org>"))
    assert (answer["build_digest"], answer["signed_off"]["person"]) == (digest, "Ada Lovelace <ada@example.org>")


def test_what_is_damaged_is_not_signed(home: Path, folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    (folder / "model.onnx").write_bytes(b"grapg")
    with pytest.raises(DamagedArtifact, match=r"the content of model\.onnx has changed"):
        ask(home, "mine", "--sign-off", "Ada Lovelace <ada@example.org>")


@pytest.mark.parametrize("person", ["Ada", "ada@example.org", "<a@b.c>", " <a@b.c>", "Ada <a@b> x", "Ada <a b@c>"])
def test_a_sign_off_without_name_and_mail_is_refused(person: str, home: Path, folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    with pytest.raises(FoundryError, match="no name with a mail address"):
        ask(home, "mine", "--sign-off", person)


def test_the_embedded_model_has_a_card_and_can_be_signed(home: Path) -> None:
    text = ask(home, "home-assistant", "--sign-off", "Ada Lovelace <ada@example.org>")
    assert front_matter(text)["license"] == "mit"
    assert "| cpu-int4" in text
    assert "verified then: `sha256:" in text


def test_an_artifact_of_version_0_1_has_a_card_too(home: Path, folder: Path, facts: Facts) -> None:
    describe(folder, facts)
    digest = read_manifest(folder).build_digest
    for name in ("report.json", "model_card.md", "sbom.cdx.json"):
        (folder / name).unlink()
    old = json.loads((folder / "manifest.json").read_bytes())
    del old["build_digest"]
    old["files"] = [one for one in old["files"] if (folder / one["path"]).exists()]
    (folder / "manifest.json").write_text(json.dumps(old))
    text = ask(home, "mine", "--sign-off", "Ada Lovelace <ada@example.org>")
    assert "| kl_mean.neutral | 0.02 nats | 900 |" in text
    assert f"verified then: `sha256:{digest}`" in text, "it follows from the files"
