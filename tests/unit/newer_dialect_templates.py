"""Chat templates in the manner of the families of 2025 and later, written for these tests: see `dialect_templates`."""

from __future__ import annotations

from pathlib import Path

from foundry_lite.engine.text.tokenizer import TextModel
from tests.unit import dialect_templates

_TURN = "<|im_start|>{{ message.role }}\n"
_OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

LFM2 = (
    "{{ bos_token }}{% if tools %}<|im_start|>system\nList of tools: <|tool_list_start|>{{ tools | tojson }}"
    "<|tool_list_end|><|im_end|>\n{% endif %}{% for message in messages %}" + _TURN + "{% if message.role == 'tool' %}"
    "<|tool_response_start|>{{ message.content }}<|tool_response_end|>{% else %}{{ message.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}" + _OPEN
)
LFM25 = (
    "{{ bos_token }}{% if tools %}<|im_start|>system\nList of tools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}"
    + _TURN
    + "{{ message.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    + _OPEN
)

_XML_TOLD = (
    "If you choose to call a function ONLY reply in this format:\n<tool_call>\n<function=example_function_name>\n"
    "<parameter=example_parameter_1>\nvalue_1\n</parameter>\n</function>\n</tool_call>"
)
_XML_CALL = (
    "<tool_call>\n<function={{ call.function.name }}>\n{% for key, value in call.function.arguments | items %}"
    "<parameter={{ key }}>\n{{ value if value is string else value | tojson }}\n</parameter>\n{% endfor %}"
    "</function>\n</tool_call>"
)
QWEN_XML = (
    "{% if tools %}<|im_start|>system\n<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>\n"
    + _XML_TOLD
    + "<|im_end|>\n{% endif %}{% for message in messages %}"
    + _TURN
    + "{% if message.reasoning_content %}<think>\n{{ message.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ message.content or '' }}{% for call in message.tool_calls or [] %}"
    + _XML_CALL
    + "{% endfor %}<|im_end|>\n{% endfor %}"
    + _OPEN
)

_DEEPSEEK_CALLS = (
    "{{ bos_token }}{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}"
    "{% if message.role == 'user' %}<｜User｜>{{ message.content }}"
    "{% elif message.role == 'tool' %}<｜tool▁output▁begin｜>{{ message.content }}<｜tool▁output▁end｜>"
    "{% elif message.tool_calls %}<｜Assistant｜><｜tool▁calls▁begin｜>{% for call in message.tool_calls %}CALL"
    "{% endfor %}<｜tool▁calls▁end｜><｜end▁of▁sentence｜>{% elif message.role == 'assistant' %}"
    "<｜Assistant｜>{{ message.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>{% else %}{{ message.content }}"
    "{% endif %}{% endfor %}"
)
DEEPSEEK = (
    _DEEPSEEK_CALLS.replace(
        "CALL",
        "{{ '<｜tool▁call▁begin｜>' + call['type'] + '<｜tool▁sep｜>' + call.function.name + '\\n' + '```json' + '\\n' "
        "+ (call.function.arguments | tojson) + '\\n' + '```' + '<｜tool▁call▁end｜>' }}",
    )
    + "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
DEEPSEEK_31 = (
    _DEEPSEEK_CALLS.replace(
        "CALL",
        "{{ '<｜tool▁call▁begin｜>' + call.function.name + '<｜tool▁sep｜>' }}{{ call.function.arguments | tojson }}"
        "<｜tool▁call▁end｜>",
    )
    + "{% if add_generation_prompt %}<｜Assistant｜>"
    "{{ '<think>' if thinking else '</think>' }}{% endif %}"
)


def _chatml(told: str, call: str = "") -> str:
    """A template of ChatML: how calls are told of, and how one in the history is written."""
    calls = f"{{% for call in message.tool_calls or [] %}}{call}{{% endfor %}}"
    return (
        "{% if tools %}<|im_start|>system\n{{ tools | tojson }}\n" + told + "<|im_end|>\n{% endif %}"
        "{% for message in messages %}"
        + _TURN
        + "{{ message.content or '' }}"
        + calls
        + "<|im_end|>\n{% endfor %}"
        + _OPEN
    )


_ARGUMENTS = "{{ call.function.arguments | tojson }}"
MINICPM = _chatml("<|tool_call_start|>\n```python\nfunc1(params_name=params_value)\n```\n<|tool_call_end|>")
OLMO = _chatml("Call them in <function_calls></function_calls> tags, each call on a new line.")
HUNYUAN = _chatml(
    "You should first print <tool_calls>For each function call, you should return object like:\n"
    "<tool_call>function_name\n```json\nfunction_arguments_in_json_format\n```</tool_call>then </tool_calls>",
    "<tool_calls><tool_call>{{ call.function.name }}\n```json\n" + _ARGUMENTS + "\n```</tool_call></tool_calls>",
)
HUNYUAN_MOE = _chatml('Format calls as <tool_calls>[{"name": "func_name1", "arguments": {}},...]</tool_calls>.')
NEMOTRON = _chatml('Use <TOOLCALL>[{"name": "tool_name1", "arguments": "tool_args1"}]</TOOLCALL>.')
GLM = _chatml(
    "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>\n...\n</tool_call>",
    "<tool_call>{{ call.function.name }}{% for key, value in call.function.arguments | items %}\n<arg_key>{{ key }}"
    "</arg_key>\n<arg_value>{{ value }}</arg_value>{% endfor %}\n</tool_call>",
)
SEED = (
    "{% for message in messages %}<seed:bos>{{ message.role }}\n{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}<seed:tool_call>\n<function={{ call.function.name }}>\n"
    "{% for key, value in call.function.arguments | items %}<parameter={{ key }}>{{ value | string }}</parameter>\n"
    "{% endfor %}</function>\n</seed:tool_call>{% endfor %}<seed:eos>{% endfor %}"
    "{% if tools %}{{ tools | tojson }}<seed:eos>{% endif %}<seed:bos>assistant\n"
)
MINICPM_XML = _chatml(
    'Return <function name="function-name"><param name="param-name">param-value</param></function>.',
    '<function name="{{ call.function.name }}">{% for key, value in call.function.arguments | items %}'
    '<param name="{{ key }}">{% if value is string and "<" in value %}<![CDATA[{{ value }}]]>{% else %}{{ value }}'
    "{% endif %}</param>{% endfor %}</function>",
)
XLAM = _chatml('In a single JSON array:\n\n[{"name": "tool_call_name", "arguments": {"arg1": "value1"}}, ...]')
INTERNLM = _chatml("<|action_start|><|plugin|>{}<|action_end|>")
GPT_OSS = (
    "<|start|>system<|message|># Valid channels: analysis, commentary, final.<|end|>"
    "{% if tools %}<|start|>developer<|message|>{{ tools | tojson }}<|end|>{% endif %}{% for message in messages %}"
    "{% if message.role == 'tool' %}<|start|>functions.f to=assistant<|channel|>commentary<|message|>"
    "{{ message.content }}<|end|>{% elif message.tool_calls %}{% if message.thinking %}"
    "<|start|>assistant<|channel|>analysis<|message|>{{ message.thinking }}<|end|>{% endif %}"
    "<|start|>assistant to=functions.{{ message.tool_calls[0].function.name }}"
    "<|channel|>commentary json<|message|>{{ message.tool_calls[0].function.arguments | tojson }}<|call|>"
    "{% elif message.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ message.content }}<|end|>"
    "{% else %}<|start|>{{ message.role }}<|message|>{{ message.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)

FAMILIES = {
    "lfm2": (LFM2,),
    "qwen-xml": (QWEN_XML,),
    "seed": (SEED,),
    "minicpm-xml": (MINICPM_XML,),
    "deepseek": (DEEPSEEK,),
    "deepseek-3.1": (DEEPSEEK_31,),
    "minicpm": (MINICPM,),
    "olmo": (OLMO,),
    "hunyuan": (HUNYUAN,),
    "jamba": (HUNYUAN_MOE,),
    "nemotron": (NEMOTRON,),
    "glm": (GLM,),
    "xlam": (XLAM,),
    "internlm": (INTERNLM,),
    "gpt-oss": (GPT_OSS,),
}
_OF_DEEPSEEK = dict.fromkeys(
    (
        *(
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁calls▁end｜>",
        ),
        *("<think>", "</think>"),
    ),
    False,
)
# The tokens that a tokenizer of the family has added, and whether they are special.
TOKENS: dict[str, dict[str, bool]] = {
    "lfm2": dict.fromkeys(
        (
            *("<|tool_call_start|>", "<|tool_call_end|>", "<|tool_list_start|>", "<|tool_list_end|>"),
            *("<|tool_response_start|>", "<|tool_response_end|>"),
        ),
        True,
    ),
    "qwen-xml": dict.fromkeys(("<tool_call>", "</tool_call>", "<think>", "</think>"), False),
    "seed": dict.fromkeys(("<seed:bos>", "<seed:eos>", "<seed:tool_call>", "</seed:tool_call>"), True),
    "minicpm-xml": {},
    "deepseek": _OF_DEEPSEEK,
    "deepseek-3.1": _OF_DEEPSEEK,
    "minicpm": dict.fromkeys(("<|tool_call_start|>", "<|tool_call_end|>"), False),
    "olmo": dict.fromkeys(("<functions>", "</functions>", "<function_calls>", "</function_calls>"), False),
    "hunyuan": {},
    "jamba": dict.fromkeys(("<tool_calls>", "</tool_calls>"), True),
    "nemotron": {},
    "glm": {
        **dict.fromkeys(
            ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"), False
        ),
        **dict.fromkeys(("<|user|>", "<|observation|>"), True),
    },
    "xlam": {},
    "gpt-oss": dict.fromkeys(
        (
            *("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>"),
            *("<|call|>", "<|return|>"),
        ),
        True,
    ),
    "internlm": dict.fromkeys(("<|action_start|>", "<|plugin|>", "<|action_end|>"), True),
}


def text_model(folder: Path, family: str, template: str | None = None) -> TextModel:
    """A model with the family's template and tokens over the tests' bytes."""
    return dialect_templates.text_model(folder, family, template or FAMILIES[family][0], TOKENS[family])
