"""Generation configuration of a source: every field of transformers is honoured, named in a note, or without effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundry_lite.catalog.card import Defaults, read_card
from foundry_lite.catalog.report import Golden
from foundry_lite.conversion.formats.generation_config import KNOWN, defaults_of
from foundry_lite.conversion.records.model_card import describe_defaults, format_model_card
from foundry_lite.conversion.sources.detect import inspect
from foundry_lite.store.manifest import read_manifest
from tests import tiny_model
from tests.unit import source_folder
from tests.unit.source_folder import change_config, write_json


def read(own: dict[str, Any]) -> tuple[Defaults, tuple[str, ...]]:
    return defaults_of(own, "generation_config.json", 512)


def test_every_field_of_transformers_is_known() -> None:
    from transformers import GenerationConfig

    fields = {name for name in GenerationConfig().to_dict() if not name.startswith("_")}
    assert fields - KNOWN == set()


def test_what_transformers_takes_for_granted_is_not_worth_a_note() -> None:
    from transformers import GenerationConfig

    granted = GenerationConfig._get_default_generation_params()
    said = {name: value for name, value in granted.items() if name not in ("top_k", "do_sample", "max_length")}
    assert read(said) == (Defaults(), ())


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"min_p": 0.1, "do_sample": True}, Defaults(min_p=0.1)),
        ({"repetition_penalty": 1.3}, Defaults(repetition_penalty=1.3)),
        ({"max_new_tokens": 7, "min_new_tokens": 3}, Defaults(max_new_tokens=7, min_tokens=3)),
        ({"stop_strings": "###"}, Defaults(stop=("###",))),
        ({"stop_strings": ["a", "b"]}, Defaults(stop=("a", "b"))),
        ({"suppress_tokens": [4, 5], "bad_words_ids": [[5], [6]]}, Defaults(suppressed=(4, 5, 6))),
        (
            {"do_sample": False, "temperature": 9, "top_p": 3, "min_p": 0.5, "typical_p": 0.2, "repetition_penalty": 2},
            Defaults(temperature=0.0, repetition_penalty=2.0),
        ),
        ({"eos_token_id": [1, 2], "pad_token_id": 0, "use_cache": False, "cache_implementation": "static"}, Defaults()),
        ({"length_penalty": 2.0, "early_stopping": True, "num_beams": 1}, Defaults()),
        ({"max_length": 512}, Defaults()),
        ({"max_length": 20, "max_new_tokens": 9}, Defaults(max_new_tokens=9)),
        ({"temperature": None, "stop_strings": None, "bad_words_ids": None, "num_beams": None}, Defaults()),
    ],
    ids=str,
)
def test_what_the_engine_can_obey_is_honoured_without_a_word(own: dict[str, Any], expected: Defaults) -> None:
    assert read(own) == (expected, ())


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"num_beams": 4, "length_penalty": 0.5}, "num_beams = 4, length_penalty = 0.5"),
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size = 3"),
        ({"typical_p": 0.2, "guidance_scale": 1.5}, "typical_p = 0.2, guidance_scale = 1.5"),
        ({"begin_suppress_tokens": [3]}, "begin_suppress_tokens = [3]"),
        ({"forced_bos_token_id": 3, "max_time": 5.0}, "forced_bos_token_id = 3, max_time = 5.0"),
        ({"bad_words_ids": [[1, 2]]}, "bad_words_ids = [[1, 2]]"),
        ({"max_length": 20}, "max_length = 20"),
        ({"temperature": 2.5, "top_p": 0, "top_k": -1}, "temperature = 2.5, top_p = 0, top_k = -1"),
        ({"temperature": "hot", "max_new_tokens": True}, 'temperature = "hot", max_new_tokens = true'),
        ({"temperature": float("nan")}, "temperature = NaN"),
        ({"stop_strings": [""], "suppress_tokens": [-1]}, 'stop_strings = [""], suppress_tokens = [-1]'),
        ({"something_new": {"x": 1}}, 'something_new = {"x": 1}'),
        ({"sequence_bias": [[[1], "x" * 90]]}, f'sequence_bias = [[[1], "{"x" * 52}…'),
        ({f"f{n}": n for n in range(1, 15)}, "f12 = 12 and 2 more"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_done_is_named(own: dict[str, Any], named: str) -> None:
    defaults, [note] = read(own)
    assert defaults == Defaults()
    assert note.startswith("generation_config.json asks for what is not done here: ")
    assert note.endswith(f"{named}.")


def test_notes_and_defaults_come_with_what_was_found(tmp_path: Path) -> None:
    folder = source_folder.write(tmp_path / "source")
    write_json(folder, "generation_config.json", {"min_p": 0.2, "num_beams": 2})
    found = inspect(folder)
    assert found.defaults == Defaults(min_p=0.2)
    assert any("num_beams = 2" in note for note in found.notes)
    (folder / "generation_config.json").unlink()
    change_config(folder, repetition_penalty=1.5, no_repeat_ngram_size=2)
    found = inspect(folder)
    assert found.defaults == Defaults(repetition_penalty=1.5)
    assert [note for note in found.notes if "config.json asks" in note and "no_repeat_ngram_size = 2" in note]


def test_the_model_card_says_what_holds_when_a_request_says_nothing() -> None:
    own = Defaults(0.5, 0.9, 40, 0.1, 1.2, 2, 100, ("###",), (3, 4))
    assert describe_defaults(own) == (
        "temperature 0.5, top_p 0.9, top_k 40, min_p 0.1, repetition_penalty 1.2, min_tokens 2, max_new_tokens 100, "
        "stops at '###', never chooses 2 tokens"
    )
    assert describe_defaults(Defaults(temperature=0.0)) == "greedy"


def test_golden_answers_are_told_to_be_without_the_models_own_penalties(tmp_path: Path) -> None:
    folder = tiny_model.install(tmp_path, "mine")
    card, manifest = read_card(folder / "card.toml"), read_manifest(folder)
    golden = (Golden("Hi", "abc"),)
    for own, said in (
        (Defaults(0.7, 0.9), "Greedy, so that"),
        (Defaults(stop=("#",)), "Greedy, and without the rest of"),
    ):
        card = msgspec.structs.replace(card, goldens=golden, defaults=own)
        assert said in format_model_card(card, manifest, None)
