"""Chat templates in the manner of each family, written for these tests: the same tags and words, and no more."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken

from foundry_lite.engine.text.tokenizer import TextModel
from tests.unit.byte_tokenizer import byte_tokenizer, write_text_model

_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TOOLS = "{% for tool in tools or [] %}{{ tool | tojson }}\n{% endfor %}"
_TOLD = "For each function call, return a json object within <tool_call></tool_call> XML tags:\n"

QWEN = "{% if tools %}<|im_start|>system\n" + _TOLD + _TOOLS + "<|im_end|>\n{% endif %}" + _CHATML
QWEN_THINKING = (
    "{% if tools %}<|im_start|>system\n" + _TOLD + _TOOLS + "<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>\n{{ message.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ message.content or '' }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
ALWAYS_THINKING = _CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}") + "{# </think> #}"
SMOLLM = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}<|im_start|>system\n"
    "Reasoning Mode: {{ '/think' if enable_thinking else '/no_think' }}\n{% if xml_tools or tools %}### Tools\n"
    + _TOLD
    + _TOOLS
    + "{% endif %}{% if python_tools %}write Python between <code> and </code>{{ python_tools }}{% endif %}<|im_end|>\n"
    + _CHATML
    + "{% if not enable_thinking %}<think>\n\n</think>\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n{% if tools %}Environment: ipython\n"
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.\n'
    + _TOOLS
    + "{% endif %}<|eot_id|>{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{% if message.tool_calls %}{% if message.tool_calls | length != 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    '{"name": "{{ message.tool_calls[0].function.name }}", "parameters": '
    "{{ message.tool_calls[0].function.arguments | tojson }}}{% else %}{{ message.content }}{% endif %}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
LLAMA_PYTHON = LLAMA.replace(
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.',
    "Answer with [func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)].",
)
LLAMA4 = LLAMA.replace("start_header_id", "header_start").replace("end_header_id", "header_end")
_MISTRAL_TURNS = (
    "{% elif message.role == 'tool' %}[TOOL_RESULTS]{{ message.tool_call_id }}|{{ message.content }}[/TOOL_RESULTS]"
    "{% elif message.role == 'user' %}[INST]{{ message.content }}[/INST]"
    "{% else %}{{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% if tools %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for message in messages %}{% if message.tool_calls %}[TOOL_CALLS] [{% for call in message.tool_calls %}"
    "{% if call.id | length != 9 %}{{ raise_exception('Tool call IDs should be nine letters!') }}{% endif %}"
    '{{ (call.function | tojson)[:-1] }}, "id": "{{ call.id }}"}{% endfor %}]{{ eos_token }}' + _MISTRAL_TURNS
)
MISTRAL_NAMED = (
    "{{ bos_token }}{% if tools %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for message in messages %}{% if message.tool_calls %}{% for call in message.tool_calls %}[TOOL_CALLS]"
    "{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}{% endfor %}{{ eos_token }}" + _MISTRAL_TURNS
)
PHI = (
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] "
    "is not none %}<|{{ message['role'] }}|>{{ message['content'] }}<|tool|>{{ message['tools'] }}<|/tool|><|end|>"
    "{% else %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PHI_FUNCTOOLS = (
    '<|system|>\n{% if tools %}format calls as functools[{"name": [function name], "arguments": [JSON]}, ...]\n'
    + _TOOLS
    + "{% endif %}<|end|>{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n"
    "{% endfor %}<|assistant|>\n"
)
GRANITE = (
    "{% if tools %}<|start_of_role|>available_tools<|end_of_role|>{{ tools | tojson }}<|end_of_text|>\n"
    "<|start_of_role|>system<|end_of_role|>Respond only with <|tool_call|> followed by a JSON list of tools used."
    "<|end_of_text|>\n{% endif %}{% for message in messages %}<|start_of_role|>{{ message.role }}<|end_of_role|>"
    "{{ message.content }}<|end_of_text|>\n{% endfor %}<|start_of_role|>assistant<|end_of_role|>"
)
GRANITE4 = (
    "{% if tools %}<|start_of_role|>system<|end_of_role|>"
    + _TOLD
    + _TOOLS
    + "<|end_of_text|>\n{% endif %}{% for message in messages %}<|start_of_role|>{{ message.role }}<|end_of_role|>"
    "{{ message.content }}<|end_of_text|>\n{% endfor %}<|start_of_role|>assistant<|end_of_role|>"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}{% set first = message.content %}"
    "{% elif (message.role == 'user') and loop.index0 > 1 and messages[loop.index0 - 1].role == 'user' %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n{{ message.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA_PYTHON = GEMMA + "{% if tools %}[func_name1(params_name1=params_value1), func_name2(params)]{% endif %}"
FUNCTION_GEMMA = (
    "{{ bos_token }}{% for tool in tools or [] %}<start_function_declaration>{{ tool.function.name }}"
    "<end_function_declaration>{% endfor %}{% for message in messages %}<start_of_turn>{{ message.role }}\n"
    "{% for call in message.tool_calls or [] %}<start_function_call>call:{{ call.function.name }}{}"
    "<end_function_call>{% endfor %}{{ message.content }}<end_of_turn>\n{% endfor %}<start_of_turn>model\n"
)
GEMMA4 = (
    "{{ bos_token }}{% if enable_thinking %}<|turn>system\n<|think|><turn|>\n{% endif %}"
    "{% for tool in tools or [] %}<|tool>{{ tool.function.name }}<tool|>{% endfor %}"
    "{% for message in messages %}<|turn>{{ message.role }}\n"
    "{% if message.reasoning_content %}<|channel>thought\n{{ message.reasoning_content }}\n<channel|>{% endif %}"
    "{% for call in message.tool_calls or [] %}<|tool_call>call:{{ call.function.name }}{}<tool_call|>{% endfor %}"
    "{{ message.content }}<turn|>\n{% endfor %}<|turn>model\n"
)

FAMILIES = {
    "hermes": (QWEN, QWEN_THINKING, ALWAYS_THINKING, GRANITE4, _CHATML),
    "smollm": (SMOLLM,),
    "llama": (LLAMA, LLAMA4),
    "llama-python": (LLAMA_PYTHON,),
    "mistral": (MISTRAL,),
    "mistral-named": (MISTRAL_NAMED,),
    "phi": (PHI,),
    "phi-functools": (PHI_FUNCTOOLS,),
    "granite": (GRANITE,),
    "gemma": (GEMMA,),
    "gemma-python": (GEMMA_PYTHON,),
    "function-gemma": (FUNCTION_GEMMA,),
    "gemma4": (GEMMA4,),
}
# The tokens that a tokenizer of the family has added, and whether they are special.
TOKENS: dict[str, dict[str, bool]] = {
    "hermes": {"<tool_call>": False, "</tool_call>": False, "<think>": False, "</think>": False},
    "smollm": {"<tool_call>": False, "</tool_call>": False, "<code>": False, "</code>": False},
    "llama": {"<|python_tag|>": True, "<|eot_id|>": True, "<|start_header_id|>": True, "<|end_header_id|>": True},
    "llama-python": {"<|python_tag|>": True, "<|eot_id|>": True},
    "mistral": {"[TOOL_CALLS]": True, "[INST]": True, "[/INST]": True, "[TOOL_RESULTS]": True},
    "mistral-named": {"[TOOL_CALLS]": True, "[ARGS]": True, "[CALL_ID]": True, "[THINK]": True, "[/THINK]": True},
    "phi": {"<|tool_call|>": False, "<|/tool_call|>": False, "<|tool|>": False, "<|/tool|>": False, "<|end|>": True},
    "phi-functools": {"<|end|>": True},
    "granite": {"<|tool_call|>": True, "<|start_of_role|>": True, "<|end_of_role|>": True},
    "gemma": {"<start_of_turn>": True, "<end_of_turn>": True},
    "gemma-python": {"<start_of_turn>": True, "<end_of_turn>": True},
    "function-gemma": {"<start_function_call>": True, "<end_function_call>": True, "<escape>": True},
    "gemma4": {"<|tool_call>": True, "<tool_call|>": True, '<|"|>': True, "<|channel>": True, "<channel|>": True},
}


def text_model(
    folder: Path, family: str, template: str | None = None, tokens: dict[str, bool] | None = None
) -> TextModel:
    """A model with the family's template and tokens over the tests' bytes."""
    write_text_model(folder, template=template or FAMILIES[family][0])
    tokenizer = byte_tokenizer()
    for text, special in (TOKENS[family] if tokens is None else tokens).items():
        token = AddedToken(text, normalized=False, special=special)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    tokenizer.save(str(folder / "tokenizer.json"))
    return TextModel(folder)
