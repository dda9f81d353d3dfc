"""Input processor: requests to sequences. Renders, tokenises, compiles grammars, checks lengths, fills in defaults."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from foundry_lite.catalog.card import Defaults
from foundry_lite.engine.grammar.answer import is_free
from foundry_lite.engine.grammar.compiler import Constraint, GrammarCompiler
from foundry_lite.engine.ipc.messages import Load
from foundry_lite.engine.reasoning import ReasoningState
from foundry_lite.engine.sampling.sampler import SequenceSampler
from foundry_lite.engine.scheduling.prompt_lookup import PromptLookup
from foundry_lite.engine.text.chunked_encoding import TooManyTokens
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.worker.logprobs import LogprobBuffer
from foundry_lite.engine.worker.output_processor import begin_answer
from foundry_lite.engine.worker.prompt_logprobs import PromptScores
from foundry_lite.engine.worker.sequence import SequenceTimings, Turn
from foundry_lite.errors import ContextExceeded, InvalidRequest
from foundry_lite.generation import Chat, GenerationRequest, Sampling, Text, Tokens

_COUNTED_CONTEXTS = 4  # a text of so many contexts is still counted, for who wants to know how much is too much
_CONTINUED = 8  # tokens before an answer that continues a text


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the loaded model: ``context_length`` is the most tokens of one sequence, answer included.

    ``remedy`` is a sentence on how it could be more, where the model itself allows it.
    """

    context_length: int
    vocabulary: int
    choices: int
    speculates: int
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that is read: its prompt in ``tokens``, and ``room`` for so many new ones.

    ``stage`` is the reasoning state in which its answer begins; ``None`` outside a conversation.
    """

    number: int
    request: GenerationRequest
    tokens: list[int]
    room: int
    stage: ReasoningState | None
    clock: SequenceTimings


class InputProcessor:
    """Makes the sequences of a request. Used from the intake thread, so that streams do not wait for it."""

    def __init__(self, load: Load, text: TextModel, limits: Limits) -> None:
        self._load = load
        self._text = text
        self._limits = limits
        self._grammars = GrammarCompiler(Path(load.folder), limits.vocabulary, text.eos_ids)

    def prepare(self, number: int, request: GenerationRequest) -> list[Turn]:
        """Make a sequence for each choice. Raises `InvalidRequest`, or `QueueFull` when no grammar can be compiled."""
        draft = self.draft(number, request)
        return self.begin(draft) or self.compile(draft)

    def draft(self, number: int, request: GenerationRequest) -> Draft:
        """Do all but what may take long, which is compiling a grammar. Raises `InvalidRequest`."""
        request = replace(request, prompt=request.shown_prompt)
        clock = SequenceTimings()
        tokens = self._encode(request.prompt, clock)
        room = self._room(tokens, request)
        self._check_sampling(request, room)
        return Draft(number, request, tokens, room, self._stage(request, tokens), clock)

    def begin(self, draft: Draft) -> list[Turn] | None:
        """Make the sequences; ``None`` where a grammar must be compiled first. Raises `InvalidRequest`."""
        if is_free(draft.request):
            return self._turns(draft, None)
        began = time.perf_counter()
        constraint = self._grammars.find(draft.request, draft.stage)
        if constraint is None:
            return None
        draft.clock.grammar = time.perf_counter() - began
        return self._turns(draft, constraint)

    def compile(self, draft: Draft, waited: float = 0.0) -> list[Turn]:
        """Compile the grammar and make the sequences. Raises as `prepare`.

        Used from one thread, which may be another. ``waited`` are the seconds that the request stood in line for it.
        """
        began = time.perf_counter()
        constraint = self._grammars.constrain(draft.request, self._text.voice, draft.stage)
        draft.clock.grammar = time.perf_counter() - began
        return self._turns(draft, constraint, waited)

    def _turns(self, draft: Draft, constraint: Constraint | None, waited: float = 0.0) -> list[Turn]:
        request = self._with_own(draft.request, draft.room, has_form=constraint is not None)
        turns = []
        for choice in range(request.choices):
            turn = self._turn(draft, choice, request)
            turn.clock = dataclasses.replace(draft.clock, begun=time.monotonic() - waited)
            turn.constraint = constraint.copy() if constraint is not None and choice else constraint
            turns.append(turn)
        if draft.request.echo:
            self._add_echo(turns[0], draft.request)
        return turns

    def encode(self, prompt: Chat | Text | Tokens) -> list[int]:
        """Encode a prompt as `prepare` would, be it longer than the context. Raises `InvalidRequest`."""
        most = _COUNTED_CONTEXTS * self._limits.context_length
        try:
            return self._tokens(prompt, SequenceTimings(), most)
        except TooManyTokens as error:
            raise InvalidRequest(
                f"This model's maximum context length is {self._limits.context_length} tokens. However, the text has "
                f"more than {most} tokens, and is not read any further",
                _param(prompt),
                "context_length_exceeded",
            ) from error

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens. Raises `InvalidRequest` for ids that this model has not."""
        self._check_ids(tokens, "tokens")
        return self._text.decode(tokens)

    def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        """Return what each of the tokens stands for."""
        return [self._text.token_bytes(token) for token in tokens]

    def _add_echo(self, turn: Turn, request: GenerationRequest) -> None:
        """Have the first sequence emit the prompt, and its logprobs where they are asked for."""
        text, tokens, prompt = self._text, turn.prompt, request.prompt
        turn.echo = prompt.text if isinstance(prompt, Text) else text.decode(tokens)
        if request.prompt_logprobs is None:
            return
        if isinstance(prompt, Text):
            starts = text.starts_in(prompt.text, add_special_tokens=prompt.add_special_tokens)
        else:
            starts = text.starts(tokens)
        turn.scores = PromptScores(tokens, starts, request.prompt_logprobs, text)

    def _turn(self, draft: Draft, choice: int, request: GenerationRequest) -> Turn:
        tokens = draft.tokens
        eos_ids = frozenset() if request.ignore_eos else self._text.eos_ids
        speculates, tells = self._limits.speculates, request.top_logprobs is not None
        return Turn(
            number=draft.number,
            prompt=tokens,
            chooser=SequenceSampler(
                request.sampling, prompt=tokens, eos_ids=eos_ids, choice=choice, top_logprobs=request.top_logprobs
            ),
            answer=begin_answer(
                request,
                self._text.voice,
                draft.stage,
                self._text.detokenizer(() if isinstance(request.prompt, Chat) else tokens[-_CONTINUED:]),
            ),
            eos_ids=eos_ids,
            max_new_tokens=draft.room,
            choice=choice,
            adapter=request.adapter,
            lookup=PromptLookup(tokens, speculates) if speculates else None,
            trail=LogprobBuffer(self._text) if tells else None,
            tells_end=not isinstance(request.prompt, Chat),
        )

    def _encode(self, prompt: Chat | Text | Tokens, clock: SequenceTimings) -> list[int]:
        context = self._limits.context_length
        try:
            tokens = self._tokens(prompt, clock, context)
        except TooManyTokens as error:
            remedy = self._limits.remedy
            raise ContextExceeded(error.limit, context, _param(prompt), is_least=True, remedy=remedy) from error
        if not tokens:
            raise InvalidRequest("the prompt is empty", _param(prompt))
        return tokens

    def _tokens(self, prompt: Chat | Text | Tokens, clock: SequenceTimings, limit: int) -> list[int]:
        """Render and encode. Raises `InvalidRequest`, or `TooManyTokens` where there are surely more than ``limit``."""
        began = time.perf_counter()
        if isinstance(prompt, Chat):
            self._check_size(prompt, limit)
            pieces = self._text.render(prompt, limit)
            clock.template = time.perf_counter() - began
            tokens = self._text.encode_pieces(pieces, limit)
        elif isinstance(prompt, Text):
            tokens = self._text.encode_text(prompt.text, add_special_tokens=prompt.add_special_tokens, limit=limit)
        else:
            tokens = list(prompt.ids)
        clock.tokenize = time.perf_counter() - began - clock.template
        self._check_ids(tokens, _param(prompt))
        return tokens

    def _check_size(self, chat: Chat, limit: int) -> None:
        """Refuse texts that ``limit`` tokens cannot hold before a template is rendered with them."""
        if _characters(chat) > limit * self._text.longest_token:
            raise TooManyTokens(limit)

    def _check_ids(self, tokens: Sequence[int], param: str) -> None:
        if tokens and not 0 <= min(tokens) <= max(tokens) < self._limits.vocabulary:
            odd = next(token for token in tokens if not 0 <= token < self._limits.vocabulary)
            known = f"those of this model are 0 to {self._limits.vocabulary - 1}"
            raise InvalidRequest(f"'{param}': {odd} is no token id; {known}", param, "invalid_value")

    def _room(self, tokens: list[int], request: GenerationRequest) -> int:
        """Return how many tokens the answer may have: as many as allowed, or as the context has left if fewer."""
        context, wanted = self._limits.context_length, request.max_new_tokens
        if wanted is None:
            wanted = self._load.defaults.max_new_tokens or None
        room = context - len(tokens)
        if room < (0 if wanted == 0 else 1):
            raise ContextExceeded(len(tokens), context, _param(request.prompt), remedy=self._limits.remedy)
        return room if wanted is None else min(wanted, room)

    def _check_sampling(self, request: GenerationRequest, room: int) -> None:
        least = request.sampling.min_tokens or 0
        if least > room:
            raise InvalidRequest(f"'min_tokens' is {least}; the answer has room for {room}", "min_tokens")
        if request.choices > self._limits.choices:
            raise InvalidRequest(f"'n' is {request.choices}; {self._limits.choices} requests may wait here", "n")
        beyond = [token for token in request.sampling.logit_bias if not 0 <= token < self._limits.vocabulary]
        if beyond:
            known = f"token ids of this model are 0 to {self._limits.vocabulary - 1}"
            raise InvalidRequest(f"'logit_bias' has the token id {beyond[0]}; {known}", "logit_bias", "invalid_value")

    def _with_own(self, request: GenerationRequest, room: int, *, has_form: bool) -> GenerationRequest:
        """Fill in the model's defaults; without its stop strings and least length for a grammar or ``ignore_eos``."""
        own, goes_on = self._load.defaults, has_form or request.ignore_eos
        stop = request.stop if goes_on else tuple(dict.fromkeys((*request.stop, *own.stop)))
        sampling = _resolve(request.sampling, own, least=0 if goes_on else min(own.min_tokens, room))
        return replace(request, sampling=sampling, stop=stop)

    def _stage(self, request: GenerationRequest, tokens: list[int]) -> ReasoningState | None:
        return self._text.stage(tokens) if isinstance(request.prompt, Chat) else None


def _resolve(ours: Sampling, own: Defaults, *, least: int) -> Sampling:
    return replace(
        ours,
        temperature=own.temperature if ours.temperature is None else ours.temperature,
        top_p=own.top_p if ours.top_p is None else ours.top_p,
        top_k=own.top_k if ours.top_k is None else ours.top_k,
        min_p=own.min_p if ours.min_p is None else ours.min_p,
        repetition_penalty=own.repetition_penalty if ours.repetition_penalty is None else ours.repetition_penalty,
        min_tokens=least if ours.min_tokens is None else ours.min_tokens,
        suppressed=own.suppressed,
    )


def _param(prompt: Chat | Text | Tokens) -> str:
    """Return the field that a prompt comes in."""
    return "messages" if isinstance(prompt, Chat) else "prompt"


def _characters(chat: Chat) -> int:
    return sum(
        len(message.content or "") + sum(len(call.arguments) for call in message.tool_calls)
        for message in chat.messages
    )
