"""``import``: a fine-tuned model becomes one that is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import BLOCK_SIZES, FAST_BLOCK_SIZE, Precision, Recipe, contradiction, recipe_for
from foundry_lite.catalog.reference import parse_reference
from foundry_lite.cli.commands.build import BaseOption, EvalOption, PickleOption, run_build, tell_outcome
from foundry_lite.cli.commands.import_adapter import import_adapter
from foundry_lite.cli.options import JsonOption
from foundry_lite.cli.output import Output
from foundry_lite.conversion.build_spec import BuildSpec, Walk
from foundry_lite.errors import BadReference


def import_(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A model folder, an adapter's, a checkpoint's, or a .gguf file.")
    ],
    name: Annotated[str, typer.Option("--name", help="What it is called here; MODEL@ADAPTER for an adapter.")],
    precision: Annotated[
        Precision | None,
        typer.Option("--precision", help="Number format of the weights. [default: int4; a quantized source's own]"),
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(
            "--block-size",
            metavar="|".join(map(str, BLOCK_SIZES)),
            help="Weights that share a scale. [default: 128, which is faster, or 32 where 128 loses too much]",
        ),
    ] = None,
    base: BaseOption = None,
    eval_: EvalOption = None,
    fast_prefill: Annotated[
        bool, typer.Option("--fast-prefill", help="Add a graph that computes prompts in 8 bits: faster, more memory.")
    ] = False,
    adapters: Annotated[bool, typer.Option("--adapters", help="Let LoRA adapters be loaded at run time.")] = False,
    reproducible: Annotated[
        bool, typer.Option("--reproducible", help="Same request, same seed, same tokens, at a cost in speed.")
    ] = False,
    allow_pickle: PickleOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the model of that name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert, quantize, check, measure and install a fine-tuned model."""
    output = Output(as_json=as_json)
    reference = parse_reference(name)
    if reference.adapter is not None:
        import_adapter(path, reference, context, output, force=force)
        return
    if reference.variant is not None:
        raise BadReference(f"{name!r} names a variant", hint="The variant follows from --precision; give only a name.")
    recipes = _recipes(precision, block_size, fast_prefill=fast_prefill, adapters=adapters)
    order = BuildSpec(
        name,
        str(path),
        recipes,
        walk=Walk.FASTEST if len(recipes) > 1 else Walk.ALL,
        base=None if base is None else str(base),
        eval=None if eval_ is None else str(eval_),
        reproducible=reproducible,
        replaces=force,
        allow_pickle=allow_pickle,
    )
    outcome = run_build(order, output)
    tell_outcome(outcome, output)
    is_generator = outcome.artifacts[0].card().task is Task.GENERATE
    output.talk(
        f"hint: foundry-lite run {name}" if is_generator else "hint: foundry-lite serve, and docs/api-embeddings.md"
    )


def _recipes(
    precision: Precision | None, block_size: int | None, *, fast_prefill: bool, adapters: bool
) -> tuple[Recipe, ...]:
    """Return what the flags ask for: the slowest last; nothing where all is left to the source."""
    if precision is None and block_size is None and not fast_prefill and not adapters:
        return ()
    if block_size is not None and block_size not in BLOCK_SIZES:
        sizes = ", ".join(map(str, BLOCK_SIZES))
        raise typer.BadParameter(f"{block_size} is not one of {sizes}", param_hint="--block-size")
    precision = precision or Precision.INT4
    if block_size is not None and not precision.is_quantized:
        raise typer.BadParameter(f"{precision} is not quantized, so it has no blocks", param_hint="--block-size")
    recipe = msgspec.structs.replace(recipe_for(precision, block_size), fast_prefill=fast_prefill, adapters=adapters)
    if problem := contradiction(recipe):
        raise typer.BadParameter(problem)
    if block_size is not None or not precision.is_quantized:
        return (recipe,)
    return (msgspec.structs.replace(recipe, block_size=FAST_BLOCK_SIZE), recipe)
