"""``import``: a fine-tuned model becomes one that is served."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from foundry_lite.build.pipeline import STEPS, Order, StepReport, build
from foundry_lite.build.quality import TOP1, WORTH_A_WARNING
from foundry_lite.catalog.recipe import BLOCK_SIZES, FAST_BLOCK_SIZE, Precision, recipe_for
from foundry_lite.catalog.reference import parse_reference
from foundry_lite.cli.adapting import import_adapter
from foundry_lite.cli.options import JsonOption
from foundry_lite.cli.output import Output, StatusLine, megabytes
from foundry_lite.errors import BadReference
from foundry_lite.settings import read_settings
from foundry_lite.store.store import Artifact, Store


def import_(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A Hugging Face model folder, or an adapter's.")],
    name: Annotated[str, typer.Option("--name", help="What it is called here; MODEL@ADAPTER for an adapter.")],
    precision: Annotated[Precision, typer.Option("--precision", help="Number format of the weights.")] = Precision.INT4,
    block_size: Annotated[
        int | None,
        typer.Option(
            "--block-size",
            metavar="32|64|128",
            help="Weights that share a scale. [default: 128, which is faster, or 32 where 128 loses too much]",
        ),
    ] = None,
    fast_prefill: Annotated[
        bool, typer.Option("--fast-prefill", help="Add a graph that computes prompts in 8 bits: faster, more memory.")
    ] = False,
    adapters: Annotated[bool, typer.Option("--adapters", help="Let LoRA adapters be loaded at run time.")] = False,
    reproducible: Annotated[
        bool, typer.Option("--reproducible", help="Same request, same seed, same tokens, at a cost in speed.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the model of that name.")] = False,
    keep_staging: Annotated[
        bool, typer.Option("--keep-staging", help="Keep the staging folder, with the builder's output.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert, quantize, check and install a fine-tuned model."""
    output = Output(as_json=as_json)
    if block_size is not None and block_size not in BLOCK_SIZES:
        raise typer.BadParameter(f"{block_size} is not one of 32, 64, 128", param_hint="--block-size")
    if block_size is not None and precision is Precision.FP32:
        raise typer.BadParameter("fp32 is not quantized, so it has no blocks", param_hint="--block-size")
    reference = parse_reference(name)
    if reference.adapter is not None:
        import_adapter(path, reference, context, output, force=force)
        return
    if reference.variant is not None:
        raise BadReference(f"{name!r} names a variant", hint="The variant follows from --precision; give only a name.")
    extras = {"fast_prefill": fast_prefill, "adapters": adapters}
    recipe = msgspec.structs.replace(recipe_for(precision, block_size), **extras)
    is_open = block_size is None and precision is not Precision.FP32
    faster = (msgspec.structs.replace(recipe, block_size=FAST_BLOCK_SIZE),) if is_open else ()
    order = Order(path, name, recipe, faster, reproducible=reproducible, replaces=force, keeps_staging=keep_staging)
    artifact = asyncio.run(_build(order, Store(read_settings().home), output))
    if as_json:
        manifest = artifact.manifest
        output.json({"model": str(artifact.ref), "size_bytes": manifest.size_bytes, "checks": manifest.checks})
        return
    output.line(f"installed {artifact.ref}, {megabytes(artifact.manifest.size_bytes)} MB")
    for check in artifact.manifest.checks:
        if check.name == TOP1 and check.value < WORTH_A_WARNING:
            output.talk(
                f"warning: only {check.value:.1%} of the next-token choices are the source's; "
                "measure it on your own data; --precision int8 loses less"
            )
    output.talk(f"hint: foundry-lite run {name}")


async def _build(order: Order, store: Store, output: Output) -> Artifact:
    with output.status("starting") as status:
        task = asyncio.ensure_future(build(order, store, lambda step: _tell(step, output, status)))
        if sys.platform != "win32":  # a terminated import cleans up as an interrupted one does
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


def _tell(step: StepReport, output: Output, status: StatusLine) -> None:
    head = f"{step.number}/{len(STEPS)} {step.name:<9} {step.detail}"
    if step.seconds is None:
        status.update(head)
    else:
        output.talk(f"{head}  {step.seconds:.1f} s")
