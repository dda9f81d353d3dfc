"""Cards: what is written can be read, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.catalog.card import Ancestor, Basis, Card, Defaults, Evidence, Origin, Sizes, format_card, read_card
from foundry_lite.catalog.recipe import Precision, recipe_for
from foundry_lite.catalog.report import Golden
from foundry_lite.errors import DamagedArtifact

SMALL = Card("mine", "Qwen2ForCausalLM", 10, 512, "folder", recipe_for(Precision.INT4))
FULL = Card(
    name="mine",
    architecture="Qwen2ForCausalLM",
    parameters=494_032_768,
    context_length=32768,
    source='a folder with "quotes" and \\',
    recipe=recipe_for(Precision.INT8, 64),
    description="Line one.\nLine two: häuser, 家.",
    license="apache-2.0",
    defaults=Defaults(temperature=0.7, top_p=0.8, top_k=20),
    limits="Speaks no French.",
    revision="f" * 40,
    command="foundry-lite build mine",
    untested_here=True,
    notes=("Dequantized from Q4_K.",),
    lineage=(
        Ancestor(Origin.BASE, "maker/base", "gguf", "1" * 64, "f" * 40, "gemma", 7),
        Ancestor(Origin.ADAPTER, "skill", "peft-adapter", "2" * 64),
    ),
    tools={"onnx": "1.23.2"},
    sizes=Sizes(25, 100, 50, Basis.MEASURED, Basis.COMPUTED),
    goldens=(Golden("Say\n'''hi\"\"\"", "Hi.", False), Golden("x", "y")),
    evidence=(
        Evidence("top1_agreement", 0.981, "share", "2026-11-02", "foundry-lite import x", 512, "laptop", {"ort": "1"}),
        Evidence("accuracy", 1, "share", "2026-11-02", "python accuracy.py"),
    ),
)


@pytest.mark.parametrize("card", [SMALL, FULL], ids=["small", "full"])
def test_a_card_is_read_as_it_was_written(card: Card, tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(format_card(card), encoding="utf-8")
    assert read_card(tmp_path / "card.toml") == card


@given(st.text().filter(lambda text: "\r" not in text), st.floats(allow_nan=False), st.integers(0, 2**63 - 1))
def test_any_text_and_figure_survive(text: str, figure: float, count: int) -> None:
    card = Card(text, text, count, 1, text, recipe_for(Precision.FP32), limits=text)
    card = msgspec.structs.replace(card, evidence=(Evidence(text, figure, text, text, text, versions={text: text}),))
    assert msgspec.toml.decode(format_card(card), type=Card) == card


def test_what_is_smaller_is_smaller_by_a_share() -> None:
    sizes = Sizes(25, 100, 20, Basis.MEASURED, Basis.COMPUTED)
    assert sizes.smaller_than(sizes.fp32) == 0.75
    assert sizes.smaller_than(sizes.fp16) == -0.25


def test_what_is_not_known_is_not_written() -> None:
    assert format_card(SMALL).splitlines() == [
        'name = "mine"',
        'architecture = "Qwen2ForCausalLM"',
        "parameters = 10",
        "context_length = 512",
        'source = "folder"',
        "",
        "[recipe]",
        'precision = "int4"',
        "block_size = 32",
    ]


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("parameters = 10", 'parameters = "ten"', "$.parameters"),
        ('precision = "int4"', 'precision = "int5"', "$.recipe.precision"),
        ("context_length = 512", "", "context_length"),
        ("parameters = 10", "parameters =", "card.toml"),
    ],
)
def test_a_wrong_field_is_named(before: str, after: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(format_card(SMALL).replace(before, after))
    with pytest.raises(DamagedArtifact) as caught:
        read_card(tmp_path / "card.toml")
    assert named in caught.value.message
    assert caught.value.hint == "Import the model again with --force."


def test_a_figure_without_its_command_is_no_evidence(tmp_path: Path) -> None:
    lines = ["[[evidence]]", 'metric = "speed"', "value = 3", 'unit = "tokens/s"', 'date = "2026-11-02"']
    (tmp_path / "card.toml").write_text(format_card(SMALL) + "\n" + "\n".join(lines))
    with pytest.raises(DamagedArtifact, match="command"):
        read_card(tmp_path / "card.toml")


def test_a_card_that_is_missing_or_binary_is_damage(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifact, match=r"card\.toml"):
        read_card(tmp_path / "card.toml")
    (tmp_path / "card.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedArtifact, match=r"card\.toml"):
        read_card(tmp_path / "card.toml")


def test_a_card_that_changes_in_place_or_by_a_rename_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(format_card(SMALL))
    assert read_card(path) == SMALL
    path.write_text(format_card(msgspec.structs.replace(SMALL, license="other")))
    assert read_card(path).license == "other"
    draft = tmp_path / "draft"
    draft.write_text(format_card(msgspec.structs.replace(SMALL, license="third")))
    draft.replace(path)
    assert read_card(path).license == "third"
    path.unlink()
    with pytest.raises(DamagedArtifact):
        read_card(path)
