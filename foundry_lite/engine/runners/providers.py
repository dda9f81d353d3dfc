"""Execution providers: what they are called, which installed packages bring one, and what can really be used here.

Nothing native is loaded in this process. Each provider is tried in a process of its own (`provider_probe`) with a time
limit, so a library that crashes or hangs is a line in the table. What libraries say of themselves is not believed:
onnxruntime-genai calls a provider available after its library was registered and then cannot load a model with it.
"""

from __future__ import annotations

import pkgutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import msgspec
from msgspec import Struct

from foundry_lite.catalog.recipe import Provider
from foundry_lite.settings import child_environment

PROBE = Path(__file__).parent / "probe"  # a decoder of 2 KB, whose logits are known
PROBE_SECONDS = 60.0  # for one provider: a first start may compile kernels
_MODULE = "foundry_lite.engine.runners.provider_probe"
_UNKNOWN = "foundry-lite runs no models with it"
_PLUGIN_PREFIX = "onnxruntime_ep_"
_OTHER_PLUGINS = ("onnxruntime_qnn",)


@dataclass(frozen=True, slots=True)
class Names:
    """Names of a provider: in onnxruntime, and in onnxruntime-genai in a configuration and of a loaded model.

    ``package`` is what a person installs. ``device`` is empty where genai reports such a model like a CPU one.
    """

    onnxruntime: str
    genai: str
    device: str
    package: str


NAMES: dict[Provider, Names] = {
    Provider.CPU: Names("CPUExecutionProvider", "cpu", "CPU", "onnxruntime"),
    Provider.CUDA: Names("CUDAExecutionProvider", "cuda", "CUDA", "onnxruntime-genai-cuda"),
    Provider.DML: Names("DmlExecutionProvider", "DML", "DML", "onnxruntime-genai-directml"),
    Provider.WEBGPU: Names("WebGpuExecutionProvider", "WebGPU", "WebGPU", "onnxruntime-ep-webgpu"),
    Provider.TRT_RTX: Names(
        "NvTensorRTRTXExecutionProvider", "NvTensorRtRtx", "NvTensorRtRtx", "onnxruntime-ep-nv-tensorrt-rtx"
    ),
    Provider.OPENVINO: Names("OpenVINOExecutionProvider", "OpenVINO", "OpenVINO", "onnxruntime-ep-openvino"),
    Provider.QNN: Names("QNNExecutionProvider", "QNN", "QnnWithSharedMemory", "onnxruntime-qnn"),
    Provider.COREML: Names("CoreMLExecutionProvider", "CoreML", "", "onnxruntime"),
}


class Device(Struct, frozen=True, omit_defaults=True):
    """A device that an execution provider offers, as onnxruntime lists it."""

    provider: str  # onnxruntime's name
    vendor: str
    type: str  # CPU, GPU or NPU
    hardware_vendor: str = ""
    description: str = ""


class Finding(Struct, frozen=True, omit_defaults=True):
    """Finding on an execution provider here. ``usable`` when a model was loaded with it and its logits were right.

    ``name`` is ours, or onnxruntime's where foundry-lite has none. ``origin`` is the package that brings it.
    """

    name: str
    origin: str
    version: str = ""
    devices: tuple[Device, ...] = ()
    usable: bool = False
    why_not: str = ""
    seconds: float | None = None  # that loading the probe took


class Line(Struct, frozen=True, omit_defaults=True):
    """A line of the provider probe's output."""

    providers: tuple[str, ...] = ()
    device: Device | None = None
    seconds: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Said:
    """The provider probe's whole output; ``failed`` says why it did not come to its end."""

    providers: tuple[str, ...]
    devices: tuple[Device, ...]
    seconds: float | None
    failed: str


def plugins() -> tuple[str, ...]:
    """Return the installed modules that bring a plug-in library, without importing them."""
    found = (one.name for one in pkgutil.iter_modules())
    return tuple(sorted(name for name in found if name.startswith(_PLUGIN_PREFIX) or name in _OTHER_PLUGINS))


def plugin_of(provider: Provider) -> str | None:
    """Return the installed module whose library brings a provider, by its name."""
    words = NAMES[provider].package.replace("-", "_")
    return next((name for name in plugins() if name.startswith(words)), None) if words != "onnxruntime" else None


def versions(provider: Provider) -> dict[str, str]:
    """Return the version of the package that brings a provider; nothing for those inside onnxruntime."""
    module = plugin_of(provider)
    return {} if module is None else dict([package_of(module)])


def scan(seconds: float = PROBE_SECONDS) -> tuple[Finding, ...]:
    """Try every provider that is built in or brought by an installed package, one after the other."""
    return (*_built_in(seconds), *(try_plugin(module, seconds) for module in plugins()))


def usable(findings: tuple[Finding, ...]) -> tuple[Provider, ...]:
    """Return the execution providers that a model can be run with."""
    return tuple(Provider(one.name) for one in findings if one.usable and one.name in set(Provider))


def _built_in(seconds: float) -> Iterator[Finding]:
    said = _ask(seconds, "list")
    if not said.providers:
        yield Finding("cpu", *package_of("onnxruntime"), why_not=said.failed or "it lists no provider")
    for ort_name in sorted(said.providers, key=lambda name: (name != "CPUExecutionProvider", name)):
        mine, provider = tuple(one for one in said.devices if one.provider == ort_name), _provider(ort_name)
        if provider is None:
            yield Finding(ort_name, *package_of("onnxruntime"), mine, why_not=_UNKNOWN)
        else:
            yield _tried(provider, "onnxruntime", mine, seconds)


def try_plugin(module: str, seconds: float = PROBE_SECONDS) -> Finding:
    """Try the provider that an installed module brings."""
    said = _ask(seconds, "list", module)
    provider = next((found for name in said.providers if (found := _provider(name)) is not None), None)
    why_not = said.failed or (_UNKNOWN if provider is None else "" if said.devices else "it finds no device here")
    if provider is None or why_not:
        name = str(provider or next(iter(said.providers), module))
        return Finding(name, *package_of(module), said.devices, why_not=why_not)
    return _tried(provider, module, said.devices, seconds)


def _tried(provider: Provider, module: str, devices: tuple[Device, ...], seconds: float) -> Finding:
    said = _ask(seconds, "try", provider)
    why_not = said.failed or ("it said nothing" if said.seconds is None else "")
    return Finding(
        str(provider),
        *package_of(module),
        devices,
        usable=not why_not,
        why_not=why_not,
        seconds=None if why_not or said.seconds is None else round(said.seconds, 3),
    )


def _ask(seconds: float, *arguments: str) -> _Said:
    """Run the provider probe; return what it wrote before its end, and why it failed, if it did."""
    command = [sys.executable, "-m", _MODULE, *map(str, arguments)]
    output, failed = b"", ""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            env=child_environment(ORT_DISABLE_TELEMETRY="1"),
        )
        output, failed = done.stdout, "" if done.returncode == 0 else _death(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as error:
        output, failed = error.stdout or b"", f"it did not answer within {seconds:g} seconds"
    whole = [line for line in output.splitlines(keepends=True) if line.endswith(b"\n")]
    lines = [msgspec.json.decode(line, type=Line) for line in whole]
    return _Said(
        providers=next((one.providers for one in lines if one.providers), ()),
        devices=tuple(one.device for one in lines if one.device is not None),
        seconds=next((one.seconds for one in lines if one.seconds is not None), None),
        failed=next((one.error for one in lines if one.error), failed),
    )


def _death(code: int, stderr: bytes) -> str:
    if code < 0:
        return f"its library ended the process with {signal.Signals(-code).name}"
    words = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return words[-1] if words else f"the process ended with {code}"


def _provider(ort_name: str) -> Provider | None:
    return next((one for one, names in NAMES.items() if names.onnxruntime == ort_name), None)


def package_of(module: str) -> tuple[str, str]:
    """Return the distribution that brings a module, such as ``onnxruntime-gpu``, and its version."""
    names = packages_distributions().get(module, [module.replace("_", "-")])
    try:
        return names[0], version(names[0])
    except PackageNotFoundError:
        return names[0], "unknown"
