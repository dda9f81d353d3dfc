"""Model references: what is one, and what must never reach the disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_lite.catalog.reference import ModelRef, parse_reference
from foundry_lite.errors import BadReference

PARTS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "name", "variant"),
    [
        ("mine", "mine", None),
        ("mine:cpu-int4", "mine", "cpu-int4"),
        ("qwen2.5-0.5b", "qwen2.5-0.5b", None),
        ("7b_chat", "7b_chat", None),
        ("a" * 64, "a" * 64, None),
        ("a..b", "a..b", None),
    ],
)
def test_a_good_reference_is_split_at_the_colon(text: str, name: str, variant: str | None) -> None:
    assert parse_reference(text) == ModelRef(name, variant)


def test_an_adapter_follows_an_at_sign() -> None:
    assert parse_reference("mine@support") == ModelRef("mine", None, "support")
    assert parse_reference("mine:cpu-int4-lora@v1.2") == ModelRef("mine", "cpu-int4-lora", "v1.2")


@pytest.mark.parametrize(
    "text",
    [
        "@",
        "@a",
        "a@",
        "a@b@c",
        "a@b:c",
        "a:@b",
        "a@..",
        "a@../b",
        "a@B",
        "",
        ".",
        "..",
        "../other",
        "a/b",
        "a\\b",
        "/etc/passwd",
        "Mine",
        "a" * 65,
        "mine:" + "a" * 65,
        ":x",
        "mine:",
        ":",
        "a:b:c",
        "mine:..",
        "mine:../x",
        "-rf",
        ".hidden",
        "a b",
        "mine\n",
        "modèle",
        "a*",
        "a\0b",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(BadReference) as caught:
        parse_reference(text)
    assert repr(text) in caught.value.message
    assert "NAME:VARIANT" in caught.value.hint


def test_the_complaint_names_the_part_that_is_wrong() -> None:
    with pytest.raises(BadReference, match=r"'mine:X' is no model reference: 'X' must be"):
        parse_reference("mine:X")


@given(PARTS, st.none() | PARTS, st.none() | PARTS)
def test_parsing_undoes_formatting(name: str, variant: str | None, adapter: str | None) -> None:
    assert parse_reference(str(ModelRef(name, variant, adapter))) == ModelRef(name, variant, adapter)


@given(st.text(max_size=80))
def test_whatever_is_accepted_is_one_plain_folder_name_a_part(text: str) -> None:
    try:
        ref = parse_reference(text)
    except BadReference:
        return
    for part in (ref.name, ref.variant or "x", ref.adapter or "x"):
        assert part not in ("", ".", "..")
        assert not set(part) & set("/\\:@*?[] \n\0")
