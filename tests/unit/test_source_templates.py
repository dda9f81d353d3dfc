"""Chat templates in every form that transformers knows, from a source's folder to the prompt that the engine writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.conversion.evaluate.template_parity import CONVERSATIONS
from foundry_lite.conversion.formats.gguf import read_gguf
from foundry_lite.conversion.formats.gguf_mapping import templates_of
from foundry_lite.conversion.lora.import_adapter import notes_on
from foundry_lite.conversion.sources import chat_templates
from foundry_lite.conversion.sources.detect import inspect
from foundry_lite.engine.chat_template.template_file import read_templates
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.errors import NotAModel
from foundry_lite.server.openai.model_entries import offer_of
from foundry_lite.settings import Settings
from foundry_lite.store.store import Store
from tests import source_model, tiny_model
from tests.gguf_writer import write_gguf
from tests.tiny_model import TEMPLATE
from tests.unit import source_folder
from tests.unit.source_folder import write_adapter, write_json
from tests.unit.test_weight_files import prepared

PLAIN = "{% for message in messages %}{{ message.content }};{% endfor %}"
TOOLS = "{{ tools | map(attribute='function') | map(attribute='name') | join }} [TOOL_CALLS]" + PLAIN
OTHER = "{{ documents }}"
ALL = {"default": PLAIN, "tool_use": TOOLS, "rag": OTHER}
LISTED = [{"name": name, "template": text} for name, text in ALL.items()]

Form = Callable[[Path], Any]


def in_files(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(PLAIN)
    (folder / "additional_chat_templates").mkdir()
    for name in ("tool_use", "rag"):
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(ALL[name])
    (folder / "additional_chat_templates" / "README").write_text("no template")


def in_config(value: Any) -> Form:
    return lambda folder: write_json(folder, "tokenizer_config.json", {"chat_template": value})


FORMS: dict[str, tuple[Form, dict[str, str]]] = {
    "one text": (in_config(PLAIN), {"default": PLAIN}),
    "a list": (in_config(LISTED), ALL),
    "an object": (in_config(ALL), ALL),
    "files": (in_files, ALL),
    "files hide a list": (lambda folder: [put(folder) for put in (in_config(LISTED[:1]), in_files)], ALL),
    "one file hides a list": (
        lambda folder: (in_config(LISTED)(folder), (folder / "chat_template.jinja").write_text(PLAIN)),
        {"default": PLAIN},
    ),
    "a processor's": (lambda folder: write_json(folder, "chat_template.json", {"chat_template": LISTED}), ALL),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source_folder.write(tmp_path / "source")
    write_json(tmp_path / "source", "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    return tmp_path / "source"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_and_comes_to_the_exporter_and_the_engine(form: str, folder: Path, tmp_path: Path) -> None:
    put, expected = FORMS[form]
    put(folder)
    found = inspect(folder)
    assert not found.needs_template
    assert any("'tool_use' is used where a request has tools" in note for note in found.notes) == (expected == ALL)
    assert any("'rag' are not used" in note for note in found.notes) == (expected == ALL)
    assert chat_templates.read_templates(folder) == read_templates(prepared(found, tmp_path)) == expected
    names = {path.relative_to(folder).as_posix() for path in found.files}
    assert ("additional_chat_templates/tool_use.jinja" in names) == ("files" in form.split())


@pytest.mark.parametrize(
    "form", [form for form, (_, found) in FORMS.items() if found == ALL and form != "a processor's"]
)
def test_the_engine_writes_prompts_with_the_template_that_transformers_takes(form: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = source_model.write(tmp_path / "source")
    (folder / "chat_template.jinja").unlink()
    FORMS[form][0](folder)
    theirs, ours = AutoTokenizer.from_pretrained(folder), TextModel(folder)
    assert ours.voice.dialect.name == "mistral"
    seen = set()
    for name in ("a question", "no tools", "a tool"):
        chat = CONVERSATIONS[name]
        tools = None if chat.tools is None else [{"type": "function", "function": {"name": t.name}} for t in chat.tools]
        messages = [{"role": one.role, "content": one.content} for one in chat.messages]
        expected = theirs.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
        assert "".join(ours.render(chat)) == expected
        seen.add("[TOOL_CALLS]" in expected)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({**ALL, "tool_use": "{% for %}"}, "the chat template 'tool_use' cannot be used"),
        ({**ALL, "tool_use": "{{ tools }}"}, "the chat template 'tool_use' leaves out what the user says"),
        ({"tool_use": TOOLS, "rag": OTHER}, "has the chat templates 'rag', 'tool_use', and none that is called 'defau"),
        ({**ALL, "default": 3}, "no text, and no list of names with texts"),
    ],
    ids=["no Jinja", "deaf", "no usual one", "no text"],
)
def test_named_templates_that_cannot_be_used_are_refused_at_once(broken: Any, says: str, folder: Path) -> None:
    in_config([{"name": name, "template": text} for name, text in broken.items()])(folder)
    with pytest.raises(NotAModel, match=says):
        inspect(folder)


def test_what_a_model_can_do_is_read_off_the_template_in_use(tmp_path: Path) -> None:
    model = tiny_model.install(tmp_path, "mine", template=PLAIN)
    offer = offer_of(Store(tmp_path).resolve(parse_reference("mine")), Store(tmp_path), Settings())
    assert offer.capabilities == ("completion", "chat")
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tool_use.jinja").write_text(f"{TOOLS}<think></think>")
    offer = offer_of(Store(tmp_path).resolve(parse_reference("mine")), Store(tmp_path), Settings())
    assert offer.capabilities == ("completion", "chat", "tools", "reasoning")
    assert TextModel(model).voice.tags is not None


def test_thoughts_that_only_the_usual_template_tells_of_are_known(tmp_path: Path) -> None:
    model = tiny_model.install(tmp_path, "mine", template=f"{PLAIN}<think></think>")
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tool_use.jinja").write_text(TOOLS)
    assert TextModel(model).voice.tags is not None


def test_gguf_files_have_named_templates_too(tmp_path: Path) -> None:
    source = source_model.write(tmp_path / "source")
    named: dict[str, Any] = {"tokenizer.chat_template": PLAIN, "tokenizer.chat_template.tool_use": TOOLS}
    path = write_gguf(source, tmp_path / "model.gguf", **named)
    assert templates_of(read_gguf(path)) == {"default": PLAIN, "tool_use": TOOLS}
    found = inspect(path)
    assert any("'tool_use' is used" in note for note in found.notes)
    broken = write_gguf(source, tmp_path / "broken.gguf", **{**named, "tokenizer.chat_template.tool_use": "{% for %}"})
    with pytest.raises(NotAModel, match="the chat template 'tool_use' cannot be used"):
        inspect(broken)


def test_templates_are_written_over_links_and_never_through_them(folder: Path, tmp_path: Path) -> None:
    in_files(folder)
    target = tmp_path / "target"
    (target / "additional_chat_templates").mkdir(parents=True)
    for name in ("chat_template.jinja", "additional_chat_templates/rag.jinja"):
        (target / name).hardlink_to(folder / name)
    chat_templates.write_templates(target, {"default": TEMPLATE})
    assert read_templates(target) == {"default": TEMPLATE}
    assert chat_templates.read_templates(folder) == ALL


def test_an_adapters_own_templates_replace_all_of_its_base(folder: Path, tmp_path: Path) -> None:
    in_files(folder)
    adapter = write_adapter(tmp_path / "adapter", folder)
    assert any("'tool_use'" in note for note in inspect(adapter).notes)
    (adapter / "chat_template.jinja").write_text(TEMPLATE)
    found = inspect(adapter)
    assert not any("'tool_use'" in note for note in found.notes)
    assert adapter / "chat_template.jinja" in found.files
    assert read_templates(prepared(found, tmp_path)) == {"default": TEMPLATE}


def test_an_adapter_beside_its_base_tells_of_a_template_that_is_not_the_bases(tmp_path: Path) -> None:
    tiny_model.install(tmp_path, "mine")
    base = Store(tmp_path).resolve(parse_reference("mine"))
    assert notes_on({}, base) == notes_on({"default": TEMPLATE}, base) == ()
    [note] = notes_on({"default": PLAIN}, base)
    assert "requests to it are written with the base's" in note
