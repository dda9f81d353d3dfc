"""docs/families.md holds what was measured of every family; ``python -m tests.families_table`` measures and writes it.

Each graph is run by the engine's own runner: a prompt in two chunks, tokens one by one, then rows of three lengths in
one call. What is compared with transformers are the logits after each of these steps.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foundry_lite.catalog.recipe import Precision, Recipe
from foundry_lite.conversion import architectures
from foundry_lite.conversion.quantize import derive
from foundry_lite.engine.runners import select
from foundry_lite.engine.runners.base import Runner
from tests import built_families, source_model
from tests.built_families import CONTEXT, TOKENS, slug
from tests.support import ROOT

PAGE = ROOT / "docs" / "families.md"
PACKAGES = ("onnxruntime", "onnxruntime-genai", "transformers")
_START, _END = "<!-- families -->\n", "<!-- end -->\n"
_CHUNKS, _LAST = (100, 160), 180
_SHORT = {1: 20, 2: 7}  # slot: tokens of its prompt


@dataclass(frozen=True, slots=True)
class Row:
    """What was found of one family."""

    family: str
    architecture: str
    exporter: str
    runner: str
    off: float  # the largest difference of a logit from transformers', float32
    int8: float  # mean KL divergence from float32, in nats
    int4: float
    notes: str

    @property
    def status(self) -> tuple[str, ...]:
        """Return what does not change from run to run."""
        return self.family, self.architecture, self.exporter, self.runner, self.notes


def measure(built: Path, family: str) -> Row:
    """Measure one family of `built_families`."""
    folder, source = built / slug(family), built / f"{slug(family)}-source"
    config = json.loads((source / "config.json").read_bytes())
    architecture = config["architectures"][0]
    found = architectures.find(architecture, config)
    runner = _open(folder)
    exact = _logits(folder)
    return Row(
        family=family,
        architecture=architecture,
        exporter="builder, taught here" if found.is_ours else "builder",
        runner=f"{select.runner_name(runner)}, {'batches' if runner.can_copy else 'row by row'}",
        off=_largest_difference(runner, np.load(built / f"{slug(family)}.npy")),
        int8=_divergence(exact, _logits(_quantized(folder, Precision.INT8))),
        int4=_divergence(exact, _logits(_quantized(folder, Precision.INT4))),
        notes="; ".join(found.notes),
    )


def render(page: str, rows: list[Row]) -> str:
    """Return the page with the table of ``rows``."""
    head = [
        "family",
        "architecture",
        "exporter",
        "runner",
        "float32: largest difference",
        "int8: KL",
        "int4: KL",
        "notes",
    ]
    lines = [head, ["---"] * 4 + ["---:"] * 3 + ["---"]]
    lines += [
        [one.family, f"`{one.architecture}`", one.exporter, one.runner, *_figures(one), one.notes] for one in rows
    ]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    before, after = page.partition(_START)[0], page.partition(_END)[2]
    return f"{before}{_START}{_versions()}\n\n{table}{_END}{after}"


def read(page: str) -> tuple[str, list[tuple[str, ...]]]:
    """Return the versions and the `Row.status` of every line of the page's table."""
    part = page.partition(_START)[2].partition(_END)[0]
    lines = [line.strip("|\n").split("|") for line in part.splitlines() if line.startswith("|")][2:]
    cells = [[one.strip() for one in line] for line in lines]
    return part.splitlines()[0], [(one[0], one[1].strip("`"), one[2], one[3], one[7]) for one in cells]


def _figures(row: Row) -> list[str]:
    return [f"{figure:.0e}" for figure in (row.off, row.int8, row.int4)]


def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def _open(folder: Path) -> Runner:
    return select.open_runner(folder, threads=1, slots=3, context_length=CONTEXT)


def _largest_difference(runner: Runner, expected: NDArray[np.float32]) -> float:
    pairs = []
    for start, end in zip((0, *_CHUNKS), _CHUNKS, strict=False):
        pairs.append((runner.prefill(0, TOKENS[start:end]), expected[end - 1]))
    for at in range(_CHUNKS[-1], _LAST):
        pairs.append((runner.decode([0], [TOKENS[at]])[0].copy(), expected[at]))
    for slot, length in _SHORT.items():
        runner.prefill(slot, TOKENS[:length])
    ends = {0: _LAST, **_SHORT}
    together = runner.decode([2, 0, 1], [TOKENS[ends[slot]] for slot in (2, 0, 1)])
    pairs += [(row, expected[ends[slot]]) for slot, row in zip((2, 0, 1), together, strict=True)]
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)


def _logits(folder: Path) -> NDArray[np.float64]:
    runner = _open(folder)
    rows = [runner.prefill(0, TOKENS[:100]).copy()]
    rows += [runner.decode([0], [token])[0].copy() for token in TOKENS[100:140]]
    return np.stack(rows).astype(np.float64)


def _quantized(folder: Path, precision: Precision) -> Path:
    target = folder.with_name(f"{folder.name}-{precision}")
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("model.onnx*"))
    derive.derive(folder, target, Recipe(precision=precision, block_size=32))
    return target


def _divergence(exact: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    p, q = _log_softmax(exact), _log_softmax(other)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted: NDArray[np.float64] = logits - logits.max(-1, keepdims=True)
    total: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return total


def _main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = built_families.build(Path(folder))
        rows = [measure(built, family) for family in source_model.FAMILIES]
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    _main()
