"""Steps that are done once: kept by the hash of their inputs, whole or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from foundry_lite.conversion.jobs.step_cache import Result, StepCache
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.toolchains.toolchains import Toolchains


class Kitchen:
    """Steps in a folder, and a count of how often something was really made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made = 0

    def run(self, name: str = "cook", text: str = "soup", **inputs: object) -> Result:
        async def make(output: Path, bench: StepContext) -> None:
            self.made += 1
            assert bench.scratch.is_dir()
            (bench.scratch / "rubbish").write_text("x")
            (output / "deep").mkdir()
            (output / "deep" / "dish").write_text(text)

        steps = StepCache(self.root, Toolchains(self.root / "toolchains"))
        return asyncio.run(steps.run(name, inputs, self.root.parent / "log", make))


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path / "build")


def test_a_step_with_the_same_inputs_is_not_done_again(kitchen: Kitchen) -> None:
    first, second = kitchen.run(salt=1), kitchen.run(salt=1)
    assert (first.is_kept, second.is_kept, kitchen.made) == (False, True, 1)
    assert first.key == second.key
    assert (second.folder / "deep" / "dish").read_text() == "soup"
    assert not list((kitchen.root / "work").iterdir())
    assert "kept" in (kitchen.root.parent / "log").read_text()


def test_other_inputs_or_another_step_are_another_result(kitchen: Kitchen) -> None:
    keys = {kitchen.run(salt=1).key, kitchen.run(salt=2).key, kitchen.run("bake", salt=1).key, kitchen.run().key}
    assert len(keys) == kitchen.made == 4


def test_the_order_of_inputs_is_none_of_their_meaning(kitchen: Kitchen) -> None:
    assert kitchen.run(a=1, b=[2]).key == kitchen.run(b=[2], a=1).key


@pytest.mark.parametrize("spoil", ["change", "remove", "record"])
def test_a_result_whose_files_are_not_what_they_were_is_made_anew(kitchen: Kitchen, spoil: str) -> None:
    dish = kitchen.run().folder / "deep" / "dish"
    if spoil == "change":
        dish.write_text("SOUP")
    elif spoil == "remove":
        dish.unlink()
    else:
        (dish.parents[2] / "step.json").write_text("{")
    assert not kitchen.run().is_kept
    assert dish.read_text() == "soup"


def test_a_step_that_fails_leaves_nothing_and_is_tried_again(kitchen: Kitchen) -> None:
    async def burn(output: Path, _bench: StepContext) -> None:
        (output / "half").write_text("x")
        raise OSError("no gas")

    steps = StepCache(kitchen.root, Toolchains(kitchen.root / "toolchains"))
    with pytest.raises(OSError, match="no gas"):
        asyncio.run(steps.run("cook", {}, kitchen.root.parent / "log", burn))
    assert not list((kitchen.root / "work").iterdir())
    assert not kitchen.run().is_kept


def test_what_a_kill_left_is_in_nobodys_way(kitchen: Kitchen) -> None:
    key = kitchen.run().key
    (kitchen.root / "cache" / f"cook-{key}").rename(kitchen.root / "work" / f"cook-{key}")
    assert not kitchen.run().is_kept
    assert kitchen.run().is_kept


def test_trimming_removes_what_was_used_longest_ago_and_all_that_is_unfinished(kitchen: Kitchen) -> None:
    old = kitchen.run(text="x" * 5000, n=1)
    new = kitchen.run(text="y" * 5000, n=2)
    (kitchen.root / "work" / "half").mkdir(parents=True)
    steps = StepCache(kitchen.root, Toolchains(kitchen.root / "toolchains"))
    assert kitchen.run(text="x" * 5000, n=1).is_kept  # used again: now the other one is older
    assert steps.trim(8000) > 5000
    assert (old.folder.exists(), new.folder.exists()) == (True, False)
    assert not (kitchen.root / "work").exists()
    assert steps.trim(0) > 5000
    assert not any((kitchen.root / "cache").iterdir())


def test_what_an_installed_model_shares_by_a_hard_link_frees_nothing(kitchen: Kitchen, tmp_path: Path) -> None:
    dish = kitchen.run(text="x" * 100_000).folder / "deep" / "dish"
    (tmp_path / "installed").hardlink_to(dish)
    assert StepCache(kitchen.root, Toolchains(kitchen.root / "t")).trim(0) < 100_000
    assert (tmp_path / "installed").read_text() == "x" * 100_000
