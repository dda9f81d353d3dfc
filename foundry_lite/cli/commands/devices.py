"""``devices``: which execution providers there are here, and whether a model can really be run with them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from foundry_lite import machine
from foundry_lite.catalog.recipe import Provider
from foundry_lite.cli.options import JsonOption
from foundry_lite.cli.output import Output
from foundry_lite.engine.runners import providers
from foundry_lite.engine.runners.providers import NAMES, PROBE_SECONDS, Finding

_ELSEWHERE = {Provider.COREML: "darwin", Provider.DML: "win32"}  # the only system that has it


def devices(
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds that one provider may take to load a tiny model.")
    ] = PROBE_SECONDS,
    as_json: JsonOption = False,
) -> None:
    """List the execution providers that onnxruntime and onnxruntime-genai find here, each tried with a tiny model."""
    output = Output(as_json=as_json)
    with output.status("trying execution providers, each in a process of its own"):
        findings = providers.scan(timeout)
    here = machine.probe_machine()
    found = {one.name for one in findings}
    absent = {str(one): names.package for one, names in NAMES.items() if str(one) not in found and _may_be_here(one)}
    if as_json:
        output.json(
            {
                "machine": here.as_dict(),
                "saturates": machine.saturates(here.kernels),
                "providers": findings,
                "packages": absent,
            }
        )
        return
    rows = [row for one in findings for row in _rows(one)]
    output.table(("provider", "from", "type", "vendor", "device", "usable", "why not"), rows)
    output.line()
    output.line(f"machine  {here.processor}, {here.cores} cores, {here.memory_bytes / 1e9:.1f} GB, {here.system}")
    output.line(f"kernels  {_arithmetic(here.kernels)}")
    for name, package in absent.items():
        output.talk(f"absent: {name} (pip install {package}, where there is such a device)")


def _arithmetic(kernels: str) -> str:
    """Return which matrix kernels onnxruntime runs here, and whether they add 8-bit products in 16 bits."""
    return f"{kernels}, sums of 8-bit products saturate" if machine.saturates(kernels) else kernels


def _may_be_here(provider: Provider) -> bool:
    return sys.platform == _ELSEWHERE.get(provider, sys.platform)


def _rows(finding: Finding) -> list[tuple[str, ...]]:
    head = (finding.name, f"{finding.origin} {finding.version}".strip())
    tail = ("yes" if finding.usable else "no", finding.why_not)
    if not finding.devices:
        return [(*head, "-", "-", "-", *tail)]
    return [
        (*head, one.type, one.hardware_vendor or one.vendor, one.description or "-", *tail) for one in finding.devices
    ]
