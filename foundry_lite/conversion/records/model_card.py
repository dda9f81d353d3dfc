"""The model card to publish: Markdown with the front matter that the Hub reads, from a card, a manifest and a report.

Nothing in it is new: every figure stands in ``card.toml`` or ``report.json`` with its machine and date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from foundry_lite.catalog.card import Ancestor, Basis, Card, Defaults, Evidence, Sizes
from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.catalog.report import Candidate, Golden, Measured, Quality, Report, TextLoss
from foundry_lite.conversion.records.evidence import conditions_of
from foundry_lite.conversion.records.front_matter import front_matter
from foundry_lite.errors import InvalidRequest
from foundry_lite.store.manifest import Manifest

_PERSON = re.compile(r"[^<>\n]*[^<>\s][^<>\n]* <[^<>@\s]+@[^<>@\s]+>")


class SignOff(NamedTuple):
    """Sign-off of an artifact: ``person`` (``Name <mail>``) vouches for it since ``date`` (ISO 8601)."""

    person: str
    date: str


def sign(person: str, date: str) -> SignOff:
    """Return a sign-off. Raises `InvalidRequest` when the person has no name or no mail address."""
    if not _PERSON.fullmatch(person):
        raise InvalidRequest(
            f"{person!r} is no name with a mail address",
            "sign-off",
            hint='Write it as in a commit: "Ada Lovelace <ada@example.org>".',
        )
    return SignOff(person, date)


def format_model_card(card: Card, manifest: Manifest, report: Report | None, sign_off: SignOff | None = None) -> str:
    """Return the model card of one variant."""
    sections = (
        _head(card, manifest),
        _origin(card),
        _build(card, manifest),
        _sizes(card.sizes),
        _quality(card, report),
        _speed(card, report),
        _goldens(card.goldens, card.defaults),
        _section("Limits", [card.limits or "Nobody has written down what it cannot do. Measure it on your own data."]),
        _files(manifest),
        _signature(manifest, sign_off),
    )
    return front_matter(card) + "\n" + "\n".join(section for section in sections if section)


def _head(card: Card, manifest: Manifest) -> str:
    words = [
        f"# {card.name}, {manifest.variant}",
        "",
        card.description or f"A {card.architecture} of {_millions(card.parameters)} parameters, built by foundry-lite.",
        "",
    ]
    if card.untested_here:
        words += [
            f"**Untested here**: built for the provider `{card.recipe.provider}`, which the machine that built it "
            "could not run. It was converted, and not tried.",
            "",
        ]
    rows = [
        ("architecture", card.architecture),
        ("parameters", f"{card.parameters:,}"),
        ("context", f"{card.context_length} tokens"),
        ("recipe", describe_recipe(card.recipe)),
        ("sampling, when a request says nothing", describe_defaults(card.defaults)),
        ("licence", card.license),
    ]
    return "\n".join([*words, _table(("", ""), rows)])


def _origin(card: Card) -> str:
    lines = [f"{number}. {_ancestor(one)}" for number, one in enumerate(card.lineage, 1)]
    lines = lines or [f"- {card.source}"]
    lines += ["", *(f"- {note}" for note in card.notes)] if card.notes else []
    return _section("What it was made of", lines)


def _ancestor(one: Ancestor) -> str:
    words = [f"{one.origin}: **{one.name}** ({one.kind})"]
    words += [f"revision `{one.revision}`"] * bool(one.revision)
    words += [f"{_millions(one.parameters)} parameters"] * (one.parameters is not None)
    return ", ".join([*words, f"licence {one.license}", f"weights `sha256:{one.digest}`"])


def _build(card: Card, manifest: Manifest) -> str:
    command = card.command or next((one.command for one in card.evidence), "")
    lines = ["```sh", command, "```", ""] if command else []
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))
    lines += [f"With {versions}."]
    if manifest.build_digest:
        lines += [
            "",
            "The same source, recipe and versions give the same files, byte for byte: "
            f"`sha256:{manifest.build_digest}`.",
        ]
    return _section("How it was built", lines)


def _sizes(sizes: Sizes | None) -> str:
    if sizes is None:
        return ""
    rows = [("this variant", f"{sizes.variant:,}", "measured", "")]
    for name, size, basis in (("fp32", sizes.fp32, sizes.fp32_is), ("fp16", sizes.fp16, sizes.fp16_is)):
        rows.append((name, f"{size:,}", _basis(basis, name), _difference(sizes.smaller_than(size))))
    return _section("Size", [_table(("", "bytes", "", ""), rows).rstrip()])


def _difference(saved: float) -> str:
    if not saved:
        return "which this variant is"
    return f"this variant is {saved:.1%} smaller" if saved > 0 else f"this variant is {-saved:.1%} larger"


def _basis(basis: Basis, name: str) -> str:
    bytes_each = 4 if name == "fp32" else 2
    return "measured" if basis is Basis.MEASURED else f"computed: parameters × {bytes_each}"


def _quality(card: Card, report: Report | None) -> str:
    if report is None:
        return _section("What was measured", [_evidence(card.evidence).rstrip()])
    rows = [_candidate(one, report, card.recipe) for one in report.candidates]
    headers = ("variant", "MB", "task kept", "top-1", "KL mean", "KL p99", "perplexity", "source's", "verdict")
    first = next((one for one in card.evidence if one.metric.startswith("kl_") or one.metric.startswith("task")), None)
    lines = [
        "Every candidate that was built, in the order in which it was tried, against the source in float32. Top-1: how "
        "often its likeliest next token is the source's. KL: divergence from the source, in nats a token.",
        "",
        _table(headers, rows).rstrip(),
        "",
    ]
    lines += [report.reason, ""] if report.reason else []
    if first is not None:
        lines += [f"Measured on {first.date}{f', {first.machine}' if first.machine else ''}."]
    return _section("Quality", lines)


def _evidence(evidence: Sequence[Evidence]) -> str:
    rows = [
        (one.metric, f"{one.value:g} {one.unit}", str(one.samples or ""), one.machine or "", one.date)
        for one in evidence
    ]
    return _table(("what", "value", "of", "machine", "date"), rows) if rows else "Nothing was."


def _candidate(one: Candidate, report: Report, own: Recipe) -> tuple[str, ...]:
    quality, task = one.quality, one.quality.task
    taken = "**chosen**" if one.recipe.variant == report.chosen else "passes"
    missed = "taken as ordered; it does not pass" if one.recipe == own else "refused"
    return (
        one.recipe.variant,
        f"{one.size_bytes / 1e6:.1f}",
        "" if task is None else f"{task.kept:.1%} ({task.passed} of {task.total}, source {task.source_passed})",
        *_loss(quality.own or quality.neutral),
        taken if one.verdict.passes else f"{missed}: {'; '.join(one.verdict.misses)}",
    )


def _loss(loss: TextLoss | None) -> tuple[str, ...]:
    if loss is None:
        return ("",) * 5
    return (
        _figure(None if loss.top1 is None else loss.top1 * 100, ".1f", " %"),
        _figure(loss.kl_mean, ".4f"),
        _figure(loss.kl_p99, ".3f"),
        _figure(loss.perplexity, ".3f"),
        _figure(loss.source_perplexity, ".3f"),
    )


def _figure(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def _speed(card: Card, report: Report | None) -> str:
    measured = [] if report is None else [(one, m) for one in report.candidates for m in one.measured]
    if report is not None and report.float32 is not None and report.float32 not in [m for _, m in measured]:
        measured.append((Candidate(Recipe(Precision.FP32), 0, Quality()), report.float32))
    if not measured:
        command = f"foundry-lite bench {card.name}:{card.recipe.variant}"
        return _section(
            "Speed and memory", [f"Not measured when this was written; `{command}` measures it where you are."]
        )
    headers = (
        "variant",
        "provider",
        "threads",
        "streams",
        "first token, ms",
        "prefill/s",
        "decode/s",
        "all/s",
        "peak MB",
        "model MB",
    )
    lines = [_table(headers, [_measured(one, m) for one, m in measured]).rstrip(), ""]
    lines += sorted({_machine(m) for _, m in measured})
    return _section("Speed and memory", lines)


def _measured(one: Candidate, figures: Measured) -> tuple[str, ...]:
    return (
        one.recipe.variant,
        figures.provider,
        str(figures.threads),
        str(figures.streams),
        f"{figures.ttft_ms:.1f}",
        f"{figures.prefill_tokens_per_s:.0f}",
        f"{figures.decode_tokens_per_s:.1f}",
        f"{figures.system_tokens_per_s:.1f}",
        _figure(figures.peak_bytes and figures.peak_bytes / 1e6, ".1f"),
        _figure(figures.model_bytes and figures.model_bytes / 1e6, ".1f"),
    )


def _machine(figures: Measured) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(figures.versions.items()))
    return (
        f"- {figures.prompt_tokens} prompt tokens, {figures.new_tokens} new ones: `{figures.command}`, "
        f"{figures.date[:10]}, {conditions_of(figures)}, {versions}"
    )


def _goldens(goldens: Sequence[Golden], own: Defaults) -> str:
    if not goldens:
        return ""
    plain = Defaults(own.temperature, own.top_p, own.top_k, own.min_p, reproducible=own.reproducible)
    without = "" if own == plain else ", and without the rest of what holds when a request says nothing"
    lines = [f"Greedy{without}, so that anybody can see whether they have the same model.", ""]
    for one in goldens:
        same = {True: "the source says the same", False: "the source says something else", None: ""}[one.is_source]
        lines += [*_fenced(one.prompt), f"answers{f' ({same})' if same else ''}:", "", *_fenced(one.answer)]
    return _section("Golden answers", lines)


def _fenced(text: str) -> list[str]:
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return [f"{fence}text", text, fence, ""]


def _files(manifest: Manifest) -> str:
    rows = [(f"`{one.path}`", f"{one.size_bytes:,}", f"`{one.sha256}`") for one in manifest.built_files]
    return _section("Files", [_table(("file", "bytes", "sha256"), rows).rstrip()])


def _signature(manifest: Manifest, sign_off: SignOff | None) -> str:
    if sign_off is None:
        hint = f'foundry-lite card {manifest.label} --sign-off "Name <mail>"'
        return _section("Sign-off", [f"Nobody has signed it off yet: `{hint}`"])
    lines = [
        f"Signed off by: {sign_off.person}",
        "",
        f"On {sign_off.date}, for the files above, verified then: `sha256:{manifest.build_digest}`",
    ]
    return _section("Sign-off", lines)


def describe_recipe(recipe: Recipe) -> str:
    """Return a recipe in words."""
    words = [f"{recipe.precision} for {recipe.provider}"]
    if recipe.precision.is_quantized:
        words += [f"{recipe.algorithm}", "symmetric" if recipe.symmetric else "asymmetric"]
        words += [f"blocks of {recipe.block_size}"] * (recipe.block_size is not None)
    words += ["8 bits where it is most sensitive"] * recipe.mixed + [f"keys and values {recipe.kv}"]
    words += ["prompts in W8A8"] * recipe.fast_prefill + ["takes LoRA adapters"] * recipe.adapters
    return ", ".join(words)


def describe_defaults(own: Defaults) -> str:
    """Return the default generation parameters as a sentence."""
    words = ["greedy" if own.temperature == 0 else f"temperature {own.temperature:g}"]
    usual = Defaults(temperature=own.temperature)
    for field in ("top_p", "top_k", "min_p", "repetition_penalty", "min_tokens", "max_new_tokens"):
        value = getattr(own, field)
        words += [f"{field} {value:g}"] * (value != getattr(usual, field))
    words += [f"stops at {', '.join(map(repr, own.stop))}"] * bool(own.stop)
    words += [f"never chooses {len(own.suppressed)} tokens"] * bool(own.suppressed)
    return ", ".join(words)


def _millions(parameters: int | None) -> str:
    return "?" if parameters is None else f"{parameters / 1e6:.1f} M"


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"## {title}", "", *lines]).rstrip() + "\n"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # a column in which nothing is known is left out
    kept = [list(row) for row in rows]
    columns = [n for n, header in enumerate(headers) if not header or any(row[n] for row in kept)]
    lines = [[headers[n] for n in columns], ["---"] * len(columns), *([row[n] for n in columns] for row in kept)]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
