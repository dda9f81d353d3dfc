"""The transcript in docs/build.md, from real commands on the embedded model's own weights.

    python -m tests.docs.build_transcript

The same weights come as a folder, as a LoRA adapter over them, as a GGUF file and as a GPTQ folder. Some minutes.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from foundry_lite.machine import probe_machine
from tests.gguf_writer import write_gguf
from tests.packed_model import write_packed
from tests.support import COMMAND, ROOT, environment

PAGE = ROOT / "docs" / "build.md"
BEGIN, END = "<!-- transcript begins -->", "<!-- transcript ends -->"
EVERY = 8  # of the held-out cases
COMMANDS = (
    "import home-model --name home",
    "import pets-adapter --base home-model --name pets",
    "import home.Q8_0.gguf --name home-gguf",
    "import home-gptq --name home-gptq",
    "build home --auto --eval cases.jsonl",
    "tune home --streams 4 --min-quality 0.95 --variants cpu-int4-b128,cpu-int4-b128-gptq-mixed,cpu-int8-b128,cpu-fp16",
    "show home --why",
    "jobs ls",
)


def main() -> None:
    """Run the commands, and put what they print into the page."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_sources(folder)
        text = "".join(transcript(folder))
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    machine = probe_machine()
    note = f"{datetime.now(UTC).date()}, {machine.processor}, {machine.cores} cores, Python {machine.python}:"
    PAGE.write_text(f"{head}{BEGIN}\n{note}\n\n```text\n{text}```\n{END}{rest.split(END)[1]}", encoding="utf-8")


def write_sources(folder: Path) -> None:
    """Write the same weights in four forms, and cases to measure by."""
    source = ROOT / "examples" / "home_assistant" / "model"
    shutil.copytree(source, folder / "home-model")
    shutil.copytree(ROOT / "examples" / "course" / "adapter", folder / "pets-adapter")
    write_gguf(source, folder / "home.Q8_0.gguf", "Q8_0")
    write_packed(source, folder / "home-gptq", "gptq", group=32)
    sys.path.insert(0, str(source.parent))
    from cases import converted  # type: ignore[import-not-found]  # a script of the example

    lines = (source.parent / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[::EVERY]
    cases = (json.dumps(converted(json.loads(line))) for line in lines)
    (folder / "cases.jsonl").write_text("".join(f"{one}\n" for one in cases), encoding="utf-8")


def transcript(folder: Path) -> Iterator[str]:
    """Yield each command with what it prints, as a terminal shows it."""
    for command in COMMANDS:
        done = subprocess.run(
            [*COMMAND, *shlex.split(command)],
            cwd=folder,
            env=environment(folder / "store", COLUMNS="150", PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        sys.stdout.write(f"$ foundry-lite {command}\n{done.stdout}\n")
        sys.stdout.flush()
        assert done.returncode == 0, done.stdout
        yield f"$ foundry-lite {command}\n"
        yield "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines()) + "\n"


if __name__ == "__main__":
    main()
