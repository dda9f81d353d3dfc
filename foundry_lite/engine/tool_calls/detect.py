"""Detection of the tool-call format by the chat template's text and the tokenizer's tokens, never by a model's name."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from foundry_lite.engine.reasoning import Tags, recognise_tags
from foundry_lite.engine.tool_calls.formats import (
    FUNCTION_GEMMA,
    GEMMA,
    GEMMA4,
    GEMMA_PYTHON,
    GRANITE,
    HERMES,
    LLAMA,
    LLAMA_PYTHON,
    MISTRAL,
    MISTRAL_NAMED,
    PHI,
    PHI_FUNCTOOLS,
    SMOLLM,
    ToolFormat,
)
from foundry_lite.engine.tool_calls.harmony import CHANNELS
from foundry_lite.engine.tool_calls.newer_formats import (
    DEEPSEEK,
    DEEPSEEK_31,
    GLM,
    GPT_OSS,
    HUNYUAN,
    INTERNLM,
    JAMBA,
    LFM2,
    MINICPM,
    MINICPM_XML,
    NEMOTRON,
    OLMO,
    QWEN_XML,
    SEED,
    XLAM,
)

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        *(HERMES, SMOLLM, LLAMA, LLAMA_PYTHON, MISTRAL, MISTRAL_NAMED, PHI, PHI_FUNCTOOLS, GRANITE),
        *(GEMMA, GEMMA_PYTHON, FUNCTION_GEMMA, GEMMA4, LFM2, QWEN_XML, SEED, MINICPM_XML),
        *(DEEPSEEK, DEEPSEEK_31, MINICPM, OLMO, HUNYUAN, JAMBA, NEMOTRON, GLM, XLAM, INTERNLM, GPT_OSS),
    )
}


class Sign(NamedTuple):
    """The sign of a tool-call format: all of ``said`` in the template, and ``token``, if any, in the tokenizer."""

    dialect: ToolFormat
    said: tuple[str, ...] = ()
    token: str = ""


# The most specific first.
_SIGNS = (
    Sign(MISTRAL_NAMED, ("[TOOL_CALLS]", "[ARGS]")),
    Sign(MISTRAL, ("[TOOL_CALLS]",)),
    Sign(FUNCTION_GEMMA, ("<start_function_call>",)),
    Sign(GEMMA4, ("<|tool_call>",)),
    Sign(GPT_OSS, ("<|channel|>", "<|message|>")),
    Sign(PHI_FUNCTOOLS, ("functools[",)),
    Sign(PHI, ("<|/tool_call|>",)),
    Sign(PHI, ("<|/tool|>",)),
    Sign(SEED, ("<seed:tool_call>",)),
    Sign(MINICPM_XML, ('<function name="', '<param name="')),
    Sign(MINICPM, ("<|tool_call_start|>", "```python")),
    Sign(LFM2, ("<|tool_list_start|>",)),
    Sign(LFM2, ("<|tool_call_start|>",)),
    Sign(DEEPSEEK, ("<｜tool▁call▁begin｜>", "```json")),
    Sign(DEEPSEEK_31, ("<｜tool▁call▁begin｜>",)),
    Sign(HUNYUAN, ("<tool_calls>", "```json")),
    Sign(JAMBA, ("<tool_calls>",)),
    Sign(NEMOTRON, ("<TOOLCALL>",)),
    Sign(NEMOTRON, ("<toolcall>",)),
    Sign(OLMO, ("<function_calls>",)),
    Sign(INTERNLM, ("<|action_start|>",)),
    Sign(XLAM, ('"name": "tool_call_name"',)),
    Sign(GLM, ("<tool_call>", "<arg_key>")),
    Sign(QWEN_XML, ("<tool_call>", "<function=")),
    Sign(HERMES, ("<|start_of_role|>", "<tool_call>")),  # Granite 4
    Sign(GRANITE, ("<|start_of_role|>",)),
    Sign(GRANITE, ("<|tool_call|>",)),
    Sign(SMOLLM, ("<tool_call>", "<code>")),
    Sign(HERMES, ("<tool_call>",)),
    Sign(LLAMA_PYTHON, ("<|start_header_id|>", "func_name1(")),
    Sign(LLAMA, ("<|start_header_id|>",)),
    Sign(LLAMA, ("<|python_tag|>",)),
    Sign(LLAMA_PYTHON, ("<|header_start|>", "func_name1(")),  # Llama 4
    Sign(LLAMA, ("<|header_start|>",)),
    Sign(GEMMA_PYTHON, ("<start_of_turn>", "func_name1(")),
    Sign(GEMMA, ("<start_of_turn>",)),
    Sign(LFM2, ("<|im_start|>",), "<|tool_call_start|>"),  # LFM2.5, whose template does not say how calls are written
    Sign(HERMES, ("<|im_start|>",)),
    Sign(MISTRAL_NAMED, token="[ARGS]"),
    Sign(MISTRAL, token="[TOOL_CALLS]"),
    Sign(FUNCTION_GEMMA, token="<start_function_call>"),
    Sign(GEMMA4, token="<|tool_call>"),
    Sign(GPT_OSS, token="<|constrain|>"),
    Sign(PHI, token="<|/tool_call|>"),
    Sign(LFM2, token="<|tool_call_start|>"),
    Sign(DEEPSEEK, token="<｜tool▁call▁begin｜>"),
    Sign(GRANITE, token="<|start_of_role|>"),
    Sign(HERMES, token="<tool_call>"),
    Sign(LLAMA, token="<|python_tag|>"),
    Sign(GEMMA, token="<start_of_turn>"),
)


def recognise(template: str, tokens: Collection[str]) -> ToolFormat:
    """Return the tool-call format of a template, else of a tokenizer's added tokens; else `HERMES`."""
    for dialect, said, token in _SIGNS:
        if all(text in template for text in said) and (not token or token in tokens):
            return dialect
    return HERMES


def recognise_thoughts(dialect: ToolFormat, template: str, tokens: Collection[str]) -> Tags | None:
    """Return the reasoning tags of a model of a family; ``None`` for one that does not think."""
    return CHANNELS if dialect is GPT_OSS else recognise_tags(template, tokens)
