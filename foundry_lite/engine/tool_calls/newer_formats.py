"""Tool-call formats of further model families, of 2025 and later; the first ones are in `formats`."""

from __future__ import annotations

from dataclasses import replace

from foundry_lite.engine.tool_calls.formats import CallSyntax, Delimiter, Shape, ToolFormat
from foundry_lite.engine.tool_calls.harmony import CALL, HEAD, MARKS, OTHER_HEADS, START, ChannelCalls
from foundry_lite.engine.tool_calls.named_calls import DeepSeekCalls, FencedCalls
from foundry_lite.engine.tool_calls.object_calls import JsonCalls, PythonCalls
from foundry_lite.engine.tool_calls.xml_calls import KeyedCalls, OpenedCalls, ParameterCalls, TaggedCalls, UnlinedCalls

LFM2 = ToolFormat(
    "lfm2",
    (Delimiter("<|tool_call_start|>", "<|tool_call_end|>", (PythonCalls, JsonCalls)),),
    CallSyntax(Shape.PYTHON, "<|tool_call_start|>", "<|tool_call_end|>"),
)
MINICPM = ToolFormat(
    "minicpm", LFM2.marks, replace(LFM2.writing, shape=Shape.LINES, head="\n```python\n", tail="\n```\n")
)
OLMO = ToolFormat(
    "olmo",
    (Delimiter("<function_calls>", "</function_calls>", (PythonCalls,)),),
    CallSyntax(Shape.LINES, "<function_calls>", "</function_calls>"),
)
QWEN_XML = ToolFormat(
    "qwen-xml",
    (
        Delimiter("<tool_call>", "</tool_call>", (TaggedCalls, JsonCalls)),
        Delimiter("<function=", "</tool_call>", (OpenedCalls,)),
    ),
    CallSyntax(
        Shape.TAGGED,
        "<tool_call>",
        "</tool_call>",
        head="\n<function={}>\n",
        tail="</function>\n",
        between="\n",
        pair=("<parameter={}>\n", "\n</parameter>\n"),
    ),
)
SEED = ToolFormat(
    "seed",
    (Delimiter("<seed:tool_call>", "</seed:tool_call>", (UnlinedCalls, JsonCalls)),),
    replace(
        QWEN_XML.writing,
        before="<seed:tool_call>",
        after="</seed:tool_call>",
        pair=("<parameter={}>", "</parameter>\n"),
    ),
)
MINICPM_XML = ToolFormat(
    "minicpm-xml",
    (Delimiter('<function name="', "", (ParameterCalls,)),),
    CallSyntax(
        Shape.TAGGED,
        '<function name="',
        "</function>",
        head='{}">',
        between="\n",
        pair=('<param name="{}">', "</param>"),
    ),
)
_DEEPSEEK_MARKS = (Delimiter("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", (DeepSeekCalls,)),)
_DEEPSEEK_INNER = frozenset({DeepSeekCalls.before, DeepSeekCalls.within, DeepSeekCalls.after})
_DEEPSEEK_31 = CallSyntax(
    Shape.FRAMED,
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    head=f"{DeepSeekCalls.before}{{}}{DeepSeekCalls.within}",
    tail=DeepSeekCalls.after,
)
_DEEPSEEK = replace(
    _DEEPSEEK_31,
    head=f"{DeepSeekCalls.before}function{DeepSeekCalls.within}{{}}\n```json\n",
    tail=f"\n```{DeepSeekCalls.after}",
    between="\n",
    is_loose=True,  # the templates of the first ones have no last delimiter behind a single call
)
DEEPSEEK = ToolFormat("deepseek", _DEEPSEEK_MARKS, _DEEPSEEK, inner=_DEEPSEEK_INNER)
DEEPSEEK_31 = ToolFormat("deepseek-3.1", _DEEPSEEK_MARKS, _DEEPSEEK_31, inner=_DEEPSEEK_INNER)
HUNYUAN = ToolFormat(
    "hunyuan",
    (Delimiter("<tool_calls>", "</tool_calls>", (FencedCalls, JsonCalls)),),
    CallSyntax(
        Shape.FRAMED,
        "<tool_calls>",
        "</tool_calls>",
        head=f"{FencedCalls.before}{{}}\n```json\n",
        tail=f"\n```{FencedCalls.after}",
        between="\n",
    ),
    inner=frozenset({FencedCalls.before, FencedCalls.after}),
)
JAMBA = ToolFormat("jamba", HUNYUAN.marks, CallSyntax(Shape.LIST, "<tool_calls>", "</tool_calls>"), inner=HUNYUAN.inner)
NEMOTRON = ToolFormat(
    "nemotron",
    (Delimiter("<TOOLCALL>", "</TOOLCALL>"), Delimiter("<toolcall>", "</toolcall>")),
    CallSyntax(Shape.LIST, "<TOOLCALL>", "</TOOLCALL>"),
)
GLM = ToolFormat(
    "glm",
    (Delimiter("<tool_call>", "</tool_call>", (KeyedCalls, JsonCalls)),),
    CallSyntax(
        Shape.TAGGED,
        "<tool_call>",
        "</tool_call>",
        head="{}\n",
        between="\n",
        pair=("<arg_key>{}</arg_key>\n<arg_value>", "</arg_value>\n"),
        is_loose=True,  # GLM 4.7 and 5 have no line ends there
    ),
    inner=frozenset({"<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"}),
)
XLAM = ToolFormat(
    "xlam",
    (Delimiter("```json", "```"), Delimiter("<tool_call>", "</tool_call>")),
    CallSyntax(Shape.LIST),
    bare=(JsonCalls,),
)
INTERNLM = ToolFormat(
    "internlm",
    (Delimiter("<|action_start|><|plugin|>", "<|action_end|>"),),
    CallSyntax(Shape.OBJECT, "<|action_start|><|plugin|>", "<|action_end|>", key="parameters"),
    inner=frozenset({"<|action_start|>", "<|plugin|>"}),
)
GPT_OSS = ToolFormat(
    "gpt-oss",
    (Delimiter(START, CALL, (ChannelCalls,)),),
    CallSyntax(Shape.FRAMED, head=HEAD, between=START, heads=OTHER_HEADS),
    inner=MARKS,
)
