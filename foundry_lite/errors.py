"""Every error foundry-lite raises on purpose, as one tree.

    FoundryError
    ├── InvalidRequest          a request that cannot be obeyed; names the field
    │   ├── ContextExceeded     the prompt does not fit the context
    │   └── ResponseNotFound    no stored response of that id
    ├── RequestTooLarge         a body beyond the limit
    ├── RequestStalled          a body that does not arrive
    ├── NotAllowed              a request without the token that it needs
    ├── BadReference            a string that is no model reference
    ├── BadSetting              an environment variable that cannot be obeyed
    ├── ModelNotFound           nothing installed answers to that name
    ├── NameTaken               an import under a name that exists
    ├── ModelInUse              a model that cannot be unloaded while it serves requests
    ├── SourceRejected          a folder that cannot become a model
    │   ├── NotAModel           not a Hugging Face model folder
    │   ├── UnsupportedArchitecture
    │   ├── UnsupportedAdapter  an adapter of a kind, or for a base, that cannot be served
    │   │   └── WrongBase       an adapter that was trained on another model
    │   ├── UnsafeSource        a path in it leads out of its folder, or it is made to exhaust the machine
    │   ├── DamagedWeights      truncated or inconsistent safetensors
    │   ├── PickledWeights      weights that can only be read by running them
    │   └── RemoteCode          the folder wants its own Python code to be run
    ├── BuildFailed             the conversion went wrong
    │   ├── ToolchainMissing    the ``build`` extra is not installed
    │   ├── CheckFailed         the result does not behave as the source
    │   ├── GateFailed          no candidate is good enough
    │   ├── MemoryShort         the build would not fit into this machine
    │   └── StorageFull         no room, or a write that failed
    ├── JobNotFound             no job of that number
    ├── DamagedArtifact         an installed model whose files do not match its manifest
    ├── EngineBusy              no room to do it now; come back later
    │   └── QueueFull           too many requests wait for that model already
    ├── LoadFailed              the worker could not load the model
    ├── EngineDied              the worker ended; its requests are lost
    ├── InternalFault           a mistake of ours; it cost one request
    └── DaemonUnreachable       no daemon answers at that address

A message states the fact with its values; ``hint`` is one sentence on what to do next. They are never one string.
"""

from __future__ import annotations


class FoundryError(Exception):
    """A deliberate error; ``hint`` is what to do next, or empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidRequest(FoundryError):
    """A request that cannot be obeyed. ``param`` is the field as the caller wrote it, such as ``messages[2].role``."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, hint: str = "") -> None:
        super().__init__(message, hint)
        self.param = param
        self.code = code


class ContextExceeded(InvalidRequest):
    """The prompt leaves no room for a single new token. The words are OpenAI's: clients look for them."""

    def __init__(
        self,
        prompt_tokens: int,
        context_length: int,
        param: str = "messages",
        *,
        is_least: bool = False,
        remedy: str = "",
    ) -> None:
        """``is_least``: the prompt has even more tokens, and nobody has counted them.

        ``remedy`` is a sentence on how the model could hold more, where it could.
        """
        count = f"more than {prompt_tokens}" if is_least else prompt_tokens
        oldest = ", or drop the oldest turns" if param == "messages" else ""
        hint = f"Please reduce the length of the {param}{oldest}: prompt and answer share that length."
        super().__init__(
            f"This model's maximum context length is {context_length} tokens. "
            f"However, your {param} resulted in {count} tokens",
            param=param,
            code="context_length_exceeded",
            hint=f"{hint} {remedy}".rstrip(),
        )


class ResponseNotFound(InvalidRequest):
    """There is no stored response of that id."""


class RequestTooLarge(FoundryError):
    """A request whose body is beyond a limit: bytes, values or depth."""


class RequestStalled(FoundryError):
    """A request whose body does not arrive."""


class NotAllowed(FoundryError):
    """A request without the token that it needs."""


class BadReference(FoundryError):
    """A text that is no model reference."""


class BadSetting(FoundryError):
    """An environment variable or option whose value cannot be obeyed."""


class ModelNotFound(FoundryError):
    """Nothing installed answers to that name."""


class NameTaken(FoundryError):
    """An import under a name that exists already."""


class ModelInUse(FoundryError):
    """A model that serves requests, and was to be unloaded."""


class SourceRejected(FoundryError):
    """A folder that cannot become a model."""


class NotAModel(SourceRejected):
    """Not a Hugging Face model folder, or one that lacks a file we need."""


class UnsupportedArchitecture(SourceRejected):
    """A model family that the builder or the engine does not know."""


class UnsupportedAdapter(SourceRejected):
    """An adapter of another kind than LoRA on linear layers, or one that does not fit its base."""


class WrongBase(UnsupportedAdapter):
    """An adapter that was trained on another model than the one it is to be merged into."""


class UnsafeSource(SourceRejected):
    """A source with a path that leads out of its folder, or one that is made to exhaust the machine."""


class DamagedWeights(SourceRejected):
    """A safetensors file that is truncated or contradicts itself."""


class PickledWeights(SourceRejected):
    """Weights in pickle files: reading them would run code from the folder."""


class RemoteCode(SourceRejected):
    """The folder asks for its own Python code to be run (``auto_map``)."""


class BuildFailed(FoundryError):
    """The conversion went wrong."""


class ToolchainMissing(BuildFailed):
    """Converting needs packages that are not installed."""


class CheckFailed(BuildFailed):
    """The converted model does not behave as its source."""


class GateFailed(BuildFailed):
    """No candidate passes the gate; the message has the figures of the best."""


class MemoryShort(BuildFailed):
    """The build would need more memory than there is."""


class JobNotFound(FoundryError):
    """There is no job of that number."""


class StorageFull(BuildFailed):
    """There is no room on the disk, or a write failed."""

    @classmethod
    def at_home(cls, folder: object, error: OSError) -> StorageFull:
        """Return the error of a write below the home folder that failed."""
        hint = "Set FOUNDRY_LITE_HOME to a folder that can be written, on a disk with room."
        return cls(f"cannot write to {folder}: {error.strerror}", hint)


class DamagedArtifact(FoundryError):
    """An installed model whose files do not match its manifest."""


class EngineBusy(FoundryError):
    """There is no room to do it now. ``retry_after`` is in seconds."""

    def __init__(self, message: str, retry_after: int = 1, hint: str = "") -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class QueueFull(EngineBusy):
    """Too many requests wait for that model already."""


class LoadFailed(FoundryError):
    """The worker could not load the model."""


class EngineDied(FoundryError):
    """The worker process ended while it held the request."""


class InternalFault(FoundryError):
    """A mistake of ours, met while preparing one request."""


class DaemonUnreachable(FoundryError):
    """No foundry-lite daemon answers at that address."""
