"""Build report: measured loss against the source, task score, speed and memory of each candidate, and the verdict."""

from __future__ import annotations

from msgspec import Struct

from foundry_lite.catalog.recipe import Recipe

FINGERPRINT = "fingerprint.json"  # beside the model: `engine.runners.fingerprint`


class TextLoss(Struct, frozen=True, omit_defaults=True):
    """Loss on one set of texts, predicted token by token: perplexity, and KL divergence from the source in nats.

    ``None`` where there is no source to compare with (a ready ONNX folder): then only the perplexity is known.
    """

    positions: int
    perplexity: float
    source_perplexity: float | None = None
    kl_mean: float | None = None
    kl_p99: float | None = None
    top1: float | None = None  # share of positions at which the likeliest token is the source's


class TaskScore(Struct, frozen=True):
    """The user's own data: how many of ``total`` answers pass their check, of this variant and of the source."""

    passed: int
    source_passed: int
    total: int

    @property
    def kept(self) -> float:
        """The share of the source's accuracy that is kept; 1 where the source passes nothing."""
        return self.passed / self.source_passed if self.source_passed else 1.0


class Golden(Struct, frozen=True):
    """A prompt with this variant's greedy answer; ``is_source`` when the source gives the very same."""

    prompt: str
    answer: str
    is_source: bool | None = None


class Quality(Struct, frozen=True, omit_defaults=True):
    """Everything that is known of what a variant lost. ``own`` and ``task`` come from the user's data, if given.

    ``similarity`` is for encoders: the mean cosine between the variant's vectors and the source's; for rerankers the
    correlation of the scores.
    """

    neutral: TextLoss | None = None
    own: TextLoss | None = None
    task: TaskScore | None = None
    similarity: float | None = None
    goldens: tuple[Golden, ...] = ()


class Pressure(Struct, frozen=True):
    """CPU pressure during a measurement, as shares of the time of the cores in use.

    ``others`` is the work of other processes, ``stolen`` what the hypervisor gave to others; ``waited`` is the share of
    the time for which some task, perhaps one of ours, was ready and had no core (Linux). ``load`` is the load average
    of the last minute.
    """

    others: float
    stolen: float
    waited: float | None = None
    load: float | None = None

    @property
    def taken(self) -> float:
        """The share of the processor that was not ours to use."""
        return self.others + self.stolen

    @property
    def is_disturbing(self) -> bool:
        """Return whether the pressure is so high (above a tenth) that figures of speed are unreliable."""
        return self.taken > 0.1


class Measured(Struct, frozen=True):
    """Speed and memory of a variant on one machine. Definitions: `foundry_lite.bench.benchmark`."""

    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    command: str
    threads: int
    provider: str
    prompt_tokens: int
    new_tokens: int
    streams: int
    ttft_ms: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    system_tokens_per_s: float
    load_seconds: float
    loaded_bytes: int | None
    peak_bytes: int | None
    runtime_bytes: int | None = None  # of the worker before it loaded the model
    cached_tokens: int = 0  # the most of any prompt that were reused, not computed
    pressure: Pressure | None = None  # of the most disturbed of the rounds that count

    @property
    def is_disturbed(self) -> bool:
        """Return whether the pressure during the measurement was disturbing (`Pressure.is_disturbing`)."""
        return self.pressure is not None and self.pressure.is_disturbing

    @property
    def model_bytes(self) -> int | None:
        """Memory of the model itself in bytes: the worker's after loading, less that before; ``None`` if unknown."""
        if self.loaded_bytes is None or self.runtime_bytes is None:
            return None
        return max(0, self.loaded_bytes - self.runtime_bytes)


class Verdict(Struct, frozen=True):
    """Verdict of the quality gate: one sentence for each bound that is missed; none when the variant passes."""

    misses: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        return not self.misses


class Candidate(Struct, frozen=True, omit_defaults=True):
    """Candidate of a build: a recipe with its size, quality, verdict and measurements, accepted or refused."""

    recipe: Recipe
    size_bytes: int
    quality: Quality
    verdict: Verdict = Verdict()
    measured: tuple[Measured, ...] = ()


class Report(Struct, frozen=True, omit_defaults=True):
    """All candidates of a build, in the order in which they were tried; `report.json` beside the model.

    ``float32`` is what the graph that all of them come from costs, under the same workload.
    """

    chosen: str  # a variant
    candidates: tuple[Candidate, ...]
    reason: str = ""
    float32: Measured | None = None

    def find(self, variant: str) -> Candidate | None:
        """Return the candidate of that variant."""
        return next((one for one in self.candidates if one.recipe.variant == variant), None)
