"""Makes a build specification from a user's options: of an installed model by name, or of a source by its path."""

from __future__ import annotations

from pathlib import Path

from foundry_lite.catalog.reference import ModelRef, parse_reference
from foundry_lite.conversion.build_spec import BuildSpec
from foundry_lite.errors import InvalidRequest, ModelNotFound
from foundry_lite.store.store import Store


def order_for(model: str, name: str | None, base: str | None, store: Store) -> BuildSpec:
    """Return an order without recipes. ``model`` is the path of a source, which needs a ``name``, or a model's name.

    Raises `InvalidRequest`, `BadReference`, or `ModelNotFound`, also when a model's source has gone.
    """
    if _exists(model):
        if name is None:
            raise InvalidRequest(f"{model} is a path: it needs a name here", "name", hint="Give --name.")
        if parse_reference(name) != ModelRef(name):
            raise InvalidRequest(f"{name!r} names more than a model", "name", hint="Give a plain name.")
        return BuildSpec(name, model, base=base)
    if "/" in model or "\\" in model:
        raise InvalidRequest(f"{model} does not exist", "model", hint="Give the path of a source, or a model's name.")
    reference = parse_reference(model)
    if name is not None or reference != ModelRef(reference.name):
        raise InvalidRequest(
            "an installed model is named alone", "model", hint="Such as: build mine --variant cpu-int8."
        )
    source = store.resolve(reference).manifest.source
    if not Path(source.location).exists():
        raise ModelNotFound(
            f"the source of '{model}' is not at {source.location} any more",
            hint=f"Give its path: foundry-lite build PATH --name {model}.",
        )
    own = None if source.base is None else source.base.location
    return BuildSpec(reference.name, source.location, base=base or own)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a path, or with a byte that no path may have
        return False
