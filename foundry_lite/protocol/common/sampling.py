"""Sampling fields that chat completions, plain completions and responses share.

Names and bounds are OpenAI's; ``top_k``, ``min_p``, ``repetition_penalty``, ``min_tokens`` and ``ignore_eos`` have
vLLM's names.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from foundry_lite.generation import Sampling
from foundry_lite.protocol.common.decode import invalid_value
from foundry_lite.protocol.common.request_fields import CallBody

_MOST_BIASES = 300
_MOST_BIAS = 100.0
_MOST_STOPS = 64  # OpenAI's 4 are too few for some evaluations of code
_MOST_STOP_LETTERS = 4000
_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,8}")

_StopString = Annotated[str, Meta(min_length=1, max_length=1000)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_Share = Annotated[float, Meta(ge=0, le=1)]


class SamplingBody(CallBody, kw_only=True, forbid_unknown_fields=True):
    """The fields; ``None`` is the model's own default, or none at all."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: _Share | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: Annotated[dict[str, float], Meta(max_length=_MOST_BIASES)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _StopString | Annotated[list[_StopString], Meta(max_length=_MOST_STOPS)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: _Share | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    ignore_eos: bool | None = None


def read_sampling(wire: SamplingBody, max_new_tokens: int | None) -> Sampling:
    """Read the fields. Raises `InvalidRequest` naming the one that is wrong."""
    return Sampling(
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=None if wire.top_k is None else max(wire.top_k, 0),
        seed=wire.seed,
        min_p=wire.min_p,
        presence_penalty=wire.presence_penalty or 0.0,
        frequency_penalty=wire.frequency_penalty or 0.0,
        repetition_penalty=wire.repetition_penalty,
        logit_bias={_token_id(key): _bias(key, value) for key, value in (wire.logit_bias or {}).items()},
        min_tokens=_min_tokens(wire.min_tokens, max_new_tokens),
    )


def read_stop(wire: SamplingBody) -> tuple[str, ...]:
    """Return the stop strings. Raises `InvalidRequest` when they are too long together."""
    stops = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    letters = sum(len(stop) for stop in stops)
    if letters > _MOST_STOP_LETTERS:
        raise invalid_value("stop", f"{letters} letters in all are more than {_MOST_STOP_LETTERS}")
    return stops


def _token_id(key: str) -> int:
    if not _TOKEN_ID.fullmatch(key):
        raise invalid_value("logit_bias", f'its keys are token ids, such as "42"; {key!r} is none')
    return int(key)


def _bias(key: str, value: float) -> float:
    if not -_MOST_BIAS <= value <= _MOST_BIAS:
        raise invalid_value("logit_bias", f"the bias of {key} is {value:g}, beyond -100 to 100")
    return value


def _min_tokens(least: int | None, most: int | None) -> int | None:
    if least is not None and most is not None and least > most:
        raise invalid_value("min_tokens", f"{least} are more than the {most} tokens allowed at most")
    return least
