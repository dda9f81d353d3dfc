"""The code and the library versions that make a step's result, found by following imports from the modules that run.

A module counts by its syntax tree: comments, docstrings, line ends and the layout are none of it. What it imports from
the package is followed, and so are the full names of modules that it has as strings (`StepContext.run` takes them), and
the files of the package that it names and lie beside it.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from foundry_lite.conversion.jobs.step_context import PACKAGE
from foundry_lite.conversion.toolchains.toolchains import OWN, Toolchains

_LONGEST_NAME = 100  # characters of a file that a module names

# Modules that change no result: error messages, and how environments are installed (their versions count).
_SILENT = {
    f"foundry_lite.{name}"
    for name in ("errors", "conversion.toolchains.environment", "conversion.toolchains.toolchains")
}
# Libraries that change none either, by the names they are imported by.
_SILENT_LIBRARIES = {"filelock", "huggingface_hub", "packaging", "platformdirs", "psutil", "tomli_w"}
# The distributions that make the results of a library, where they are more than the one of its name.
_DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    "onnxruntime_genai": ("onnxruntime-genai", "onnx-ir", "onnx"),
    "transformers": ("transformers", "torch", "tokenizers", "safetensors", "numpy"),
    "optimum": ("optimum", "optimum-onnx", "transformers", "torch", "onnx", "tokenizers"),
}


@dataclass(frozen=True, slots=True)
class Makers:
    """Code behind a step's result: ``modules`` with all that they import, ``glue`` modules without their imports.

    ``toolchains`` run it; the libraries that the modules import count with their versions in these.
    """

    modules: tuple[str, ...] = ()
    glue: tuple[str, ...] = ()
    toolchains: tuple[str, ...] = (OWN,)


class Code:
    """The package's code below ``root``; every module is read once."""

    def __init__(self, root: Path = PACKAGE) -> None:
        self._root = root
        self._read: dict[str, _Module] = {}

    def ingredients(self, makers: Makers, toolchains: Toolchains) -> dict[str, object]:
        """Return what goes into a key: a hash of the code, and the versions of the libraries by toolchain."""
        names = self.closure(makers.modules)
        libraries = {name for one in names for name in self._module(one).libraries}
        versions = {one: _pick(toolchains.versions(one), libraries) for one in makers.toolchains}
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return {"code": self.digest(names | set(makers.glue)), "libraries": versions, "python": python}

    def digest(self, names: Iterable[str]) -> str:
        """Hash modules, in whatever order they are named."""
        lines = (f"{name} {self._module(name).digest}" for name in sorted(names))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def closure(self, names: Iterable[str]) -> set[str]:
        """Return modules with all that they lead to, but for those that change no result."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found and name not in _SILENT:
                found.add(name)
                waiting += self._module(name).leads_to
        return found

    def _module(self, name: str) -> _Module:
        if name not in self._read:
            path = self._find(name)
            assert path is not None, f"there is no module {name}"
            tree = ast.parse(path.read_bytes())
            imported, texts = _read(tree)
            own = f"{self._root.name}."
            leads_to = {one for one in imported | texts if one.startswith(own) and self._find(one)}
            libraries = {one.partition(".")[0] for one in imported} - sys.stdlib_module_names - {self._root.name}
            digest = hashlib.sha256(ast.dump(tree, annotate_fields=False).encode())
            for beside in _files_beside(texts, path.parent):
                digest.update(beside.name.encode() + b"\0" + beside.read_bytes())
            self._read[name] = _Module(digest.hexdigest(), frozenset(leads_to), frozenset(libraries))
        return self._read[name]

    def _find(self, name: str) -> Path | None:
        parts = name.split(".")[1:]
        if not all(part.isidentifier() for part in parts):
            return None
        path = self._root.joinpath(*parts)
        return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


@dataclass(frozen=True, slots=True)
class _Module:
    digest: str
    leads_to: frozenset[str]
    libraries: frozenset[str]


def _pick(versions: Mapping[str, str], libraries: Iterable[str]) -> dict[str, str]:
    wanted = {
        name
        for library in set(libraries) - _SILENT_LIBRARIES
        for name in _DISTRIBUTIONS.get(library, (library.replace("_", "-"),))
    }
    return {name: version for name, version in sorted(versions.items()) if name in wanted}


def _read(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Take the docstrings out, and return what is imported, in functions too, and all strings.

    Of ``from a import b`` that is both ``a`` and ``a.b``, which may be a module.
    """
    imported: set[str] = set()
    texts: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
        elif isinstance(node, ast.Import):
            imported.update(one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            imported.update((node.module, *(f"{node.module}.{one.name}" for one in node.names)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
    return imported, texts


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        node.body = node.body[1:]


def _files_beside(texts: Iterable[str], folder: Path) -> Iterator[Path]:
    for text in sorted(texts):
        if "." in text and len(text) < _LONGEST_NAME and text.isprintable() and "/" not in text:
            path = folder / text
            if path.suffix != ".py" and path.is_file():
                yield path
