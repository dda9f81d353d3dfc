"""DeepSpeed checkpoints, written as DeepSpeed writes them: put together exactly, and nothing of them is run."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundry_lite.conversion.checkpoint.consolidate_zero import consolidate
from foundry_lite.conversion.formats import safetensors, torch_zip
from foundry_lite.conversion.sources.deepspeed_zero import locate
from foundry_lite.conversion.sources.detect import inspect
from foundry_lite.conversion.sources.source_model import Kind, Options
from foundry_lite.errors import (
    DamagedWeights,
    NotAModel,
    PickledWeights,
    SourceRejected,
    UnsafeSource,
    UnsupportedArchitecture,
)
from tests import source_zero
from tests.source_zero import OPTIM
from tests.unit import source_folder

FROZEN = ("embed_tokens.weight", "layers.0.mlp.up_proj.weight")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of stage 3 by two processes; copy it before it is broken."""
    folder = tmp_path_factory.mktemp("zero")
    source = source_folder.write(folder / "source")
    return source_zero.write(source, folder / "checkpoint", stage=3)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "checkpoint"))


@pytest.mark.parametrize("frozen", [(), FROZEN], ids=["trained", "frozen"])
@pytest.mark.parametrize(("stage", "ranks"), [(1, 2), (2, 2), (2, 3), (3, 2), (3, 3)])
def test_the_parts_are_put_together_exactly(stage: int, ranks: int, frozen: tuple[str, ...], tmp_path: Path) -> None:
    source = source_folder.write(tmp_path / "source")
    folder = source_zero.write(source, tmp_path / "checkpoint", stage, ranks, frozen=frozen)
    found = inspect(folder)
    assert (found.kind, found.parameters, found.weight_bits) == (Kind.ZERO, source_folder.PARAMETERS, 32)
    (tmp_path / "out").mkdir()
    consolidate(*locate(folder), tmp_path / "out")
    after = safetensors.read_arrays(tmp_path / "out" / "model.safetensors")
    assert after.keys() == source_folder.arrays().keys()
    for name, array in source_folder.arrays().items():
        exact = not name.endswith(frozen or ("\0",))  # what was not trained is kept in 16 bit
        np.testing.assert_allclose(after[name], array, rtol=0 if exact else 2**-8)


def test_a_tied_head_is_written_once(tmp_path: Path) -> None:
    source = source_folder.write(tmp_path / "source", tied=True)
    folder = source_zero.write(source, tmp_path / "checkpoint", stage=2)
    assert inspect(folder).parameters == source_folder.PARAMETERS - source_folder.VOCABULARY * source_folder.HIDDEN
    (tmp_path / "out").mkdir()
    consolidate(*locate(folder), tmp_path / "out")
    assert "lm_head.weight" not in safetensors.read_header(tmp_path / "out" / "model.safetensors")


def test_the_folder_of_the_step_may_be_given_too(folder: Path) -> None:
    assert inspect(folder / "global_step10").parameters == source_folder.PARAMETERS


def test_weights_that_were_put_together_already_are_taken(folder: Path) -> None:
    source_folder.write_arrays(folder / "model.safetensors", source_folder.arrays())
    assert inspect(folder).kind is Kind.FOLDER


def first(folder: Path) -> Path:
    return sorted((folder / "global_step10").glob("*_optim_states.pt"))[0]


def changed(**changes: Any) -> Callable[[Path], None]:
    """Change what the first optimizer's file says; a function changes what is there."""

    def change(folder: Path) -> None:
        import torch

        content = torch.load(first(folder), weights_only=False)
        state = content["optimizer_state_dict"]
        for name, value in changes.items():
            state[name] = value(state[name]) if callable(value) else value
        torch.save(content, first(folder))

    return change


def with_nan(groups: list[Any]) -> list[Any]:
    groups[0][3] = float("nan")
    return groups


def rewritten(folder: Path, **files: bytes) -> None:
    """Write the first file again with other content of its zip."""
    path = first(folder)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in content.items():
            archive.writestr(name, files.get(name.rpartition("/")[2].replace(".", "_"), body))


def linked_away(folder: Path) -> None:
    first(folder).rename(folder.parent / "away.pt")
    path = folder / "global_step10" / f"zero_pp_rank_0_mp_rank_00{OPTIM}"
    path.symlink_to(folder.parent / "away.pt")


BROKEN: dict[str, tuple[Callable[[Path], object], type[SourceRejected], str]] = {
    "a file that is missing": (lambda folder: first(folder).unlink(), DamagedWeights, "there are files of 1"),
    "a file that is cut": (
        lambda folder: first(folder).write_bytes(first(folder).read_bytes()[:500]),
        PickledWeights,
        "no file of torch's that can be read",
    ),
    "latest leads away": (
        lambda folder: (folder / "latest").write_text("../other"),
        UnsafeSource,
        "'latest' names '../other'",
    ),
    "latest names nothing": (lambda folder: (folder / "latest").write_text("global_step9"), NotAModel, "global_step9"),
    "a link out of the folder": (linked_away, UnsafeSource, "outside of"),
    "an unknown stage": (changed(zero_stage=7), DamagedWeights, "is of stage 7"),
    "no weights": (changed(fp32_flat_groups=[]), DamagedWeights, "no weights in float32"),
    "weights of a class": (
        changed(fp32_flat_groups=lambda _: [source_zero.LossScaler()]),
        DamagedWeights,
        "no weights",
    ),
    "too few numbers": (
        changed(fp32_flat_groups=lambda groups: groups[:1]),
        DamagedWeights,
        "a parameter ends at number",
    ),
    "NaN": (changed(fp32_flat_groups=with_nan), DamagedWeights, "not finite"),
    "cut by tensors too": (
        lambda folder: shutil.copy(first(folder), folder / "global_step10" / f"zero_pp_rank_0_mp_rank_01{OPTIM}"),
        UnsupportedArchitecture,
        "tensor or expert parallelism",
    ),
    "a pickle that is cut": (lambda folder: rewritten(folder, data_pkl=b"\x80\x02}"), DamagedWeights, "cannot be read"),
    "a pickle that reserves": (
        lambda folder: rewritten(folder, data_pkl=b"\x80\x02Nr\xff\xff\xff\x7f."),
        UnsafeSource,
        "LONG_BINPUT 2147483647",
    ),
    "a pickle that allocates": (
        lambda folder: rewritten(folder, data_pkl=b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"."),
        DamagedWeights,
        "cannot be read",
    ),
    "another order of bytes": (lambda folder: rewritten(folder, byteorder=b"big"), DamagedWeights, "order of bytes"),
    "a storage that is short": (lambda folder: rewritten(folder, **{"0": b"1234"}), DamagedWeights, "has 4 bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_refused(name: str, folder: Path) -> None:
    ruin, kind, fact = BROKEN[name]
    ruin(folder)
    with pytest.raises(SourceRejected) as caught:
        inspect(folder)
    assert type(caught.value) is kind, caught.value.message
    assert fact in caught.value.message
    assert caught.value.hint


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def test_what_a_pickle_calls_is_not_called(folder: Path, tmp_path: Path) -> None:
    import torch

    mark = tmp_path / "mark"
    changed(extra=Evil(mark))(folder)
    torch.load(first(folder), weights_only=False)
    assert mark.exists()  # so it works
    mark.unlink()
    assert inspect(folder).parameters == source_folder.PARAMETERS
    assert not mark.exists()


def test_a_file_of_another_format_needs_to_be_allowed(folder: Path) -> None:
    import torch

    for path in (folder / "global_step10").iterdir():
        content = torch.load(path, weights_only=False)
        torch.save(content, path, _use_new_zipfile_serialization=False)
    with pytest.raises(PickledWeights) as caught:
        inspect(folder)
    assert "--allow-pickle" in caught.value.hint
    found = inspect(folder, Options(allow_pickle=True))
    assert "you allowed it" in found.notes[-1]


def test_tensors_are_read_as_torch_wrote_them(tmp_path: Path) -> None:
    import torch

    numbers = torch.arange(24.0).reshape(2, 3, 4)
    saved = {"half": numbers.half(), "bfloat": numbers.bfloat16(), "double": numbers.double(), "part": numbers[1]}
    torch.save({**saved, "turned": numbers.mT, "whole": numbers.long()}, tmp_path / "x.pt")
    found = torch_zip.read(tmp_path / "x.pt")
    for name, tensor in saved.items():
        read = np.concatenate(list(found[name].numbers()))
        assert np.array_equal(read.reshape(found[name].shape), tensor.float().numpy())
    assert all(isinstance(found[name], torch_zip.IgnoredGlobal) for name in ("turned", "whole"))


def test_a_stage_is_a_number_of_deepspeeds_own(folder: Path) -> None:
    rewritten(folder, data_pkl=b"\x80\x02cdeepspeed.runtime.zero.config\nZeroStageEnum\nK\x02\x85R.")
    assert torch_zip.read(first(folder)) == 2
