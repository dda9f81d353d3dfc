"""foundry-lite beside llama.cpp, OpenVINO GenAI and stock onnxruntime-genai: one run, one machine, the same weights.

    python -m benchmarks.engines --home STORE --model NAME [--gguf FILE] [--openvino FOLDER] [--save]

In every round each workload is run by every engine in turn, in an order that is reversed from round to round, so that
a slow minute of the machine hits all. The first round warms up and is not counted, for all alike. While one engine is
measured, the processes of the others are stopped by a signal. benchmarks/README.md says how the models are made, what
is equal between the engines and what is not; `benchmarks.peers.figures` has the definitions.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.peers import cells, report
from benchmarks.peers.cells import Cell, run_cell
from benchmarks.peers.figures import TOTAL, Figure, Spread, spread
from benchmarks.peers.lineup import KINDS, Lineup, make_peers
from benchmarks.peers.peers import OutputProcessor, Peer
from benchmarks.peers.processes import HOLDS, PeerFailed
from benchmarks.peers.prompts import Words
from benchmarks.peers.report import Report, Row
from foundry_lite import machine
from foundry_lite.errors import FoundryError

_RESULTS = Path(__file__).parent / "results"


@dataclass(slots=True)
class Run:
    """What has come together: an answer for each cell, peer and round, and why a peer was given up."""

    answers: dict[tuple[str, str], list[OutputProcessor]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def values(self, workload: str, peer: str, figure: Figure) -> list[float]:
        """Return a figure's value in each round that has one."""
        read = (figure.read(answer) for answer in self.answers.get((workload, peer), ()))
        return [value for value in read if value is not None]


def main() -> None:
    """Measure, print, and save if told to."""
    arguments = _read_arguments()
    try:
        result = asyncio.run(_measure(arguments))
    except FoundryError as error:
        sys.exit(f"error: {error}")
    print(report.format_table(result))
    if arguments.save:
        path = arguments.save / f"{result.date[:10]}-engines-{arguments.model.replace(':', '-')}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        print(f"saved {path}")
    if not result.rows:
        sys.exit(1)


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", default=",".join(KINDS), help="KIND or KIND:MODEL, separated by commas")
    parser.add_argument("--home", type=Path, required=True, help="the store, as FOUNDRY_LITE_HOME names it")
    parser.add_argument("--model", required=True, help="the installed model that ours, engine and genai run")
    parser.add_argument("--gguf", type=Path, help="the same weights for llama.cpp")
    parser.add_argument("--openvino", type=Path, help="the same weights for OpenVINO GenAI")
    parser.add_argument("--genai", type=Path, help="a folder for genai, where it cannot run the installed one")
    parser.add_argument("--llama-server", type=Path, help="llama.cpp's server, best built on this machine")
    parser.add_argument("--llama-python", default=sys.executable, help="a Python with xllamacpp, if there is no server")
    parser.add_argument("--openvino-python", default=sys.executable, help="a Python with openvino-genai")
    parser.add_argument("--genai-python", default=sys.executable, help="a Python with onnxruntime-genai")
    parser.add_argument("--threads", type=int, default=machine.usable_cores())
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds; one more comes first, to warm up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="TEXT", help="only workloads whose name holds this")
    parser.add_argument("--quick", action="store_true", help="small workloads: does it run?")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds that one answer may take")
    parser.add_argument(
        "--save", type=Path, nargs="?", const=_RESULTS, help="write the figures there [default: benchmarks/results/]"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return arguments


async def _measure(arguments: argparse.Namespace) -> Report:
    lineup = Lineup.from_arguments(arguments)
    words = Words(lineup.folder / "tokenizer.json", arguments.seed)
    workloads = cells.quick() if arguments.quick else cells.full()
    workloads = tuple(one for one in workloads if arguments.only in one.name)
    if not workloads:
        raise SystemExit(f"no workload's name holds {arguments.only!r}")
    run = Run()
    peers = make_peers(lineup, words, run.failures)
    task = asyncio.current_task()
    if sys.platform != "win32" and task is not None:  # engines that are held would never notice that we are gone
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await _start(peers, run)
        await _run_rounds(peers, workloads, words, arguments, run)
    except asyncio.CancelledError:
        run.failures["all"] = "interrupted; the figures are of the rounds before"
    finally:
        for peer in peers:
            await peer.stop()
    return _summarise(peers, workloads, arguments, run)


async def _start(peers: list[Peer], run: Run) -> None:
    for peer in peers:
        _say(f"starting {peer.name}")
        try:
            await peer.start()
        except PeerFailed as failure:
            await _give_up(peer, failure, run)


async def _run_rounds(
    peers: list[Peer], workloads: tuple[Cell, ...], words: Words, arguments: argparse.Namespace, run: Run
) -> None:
    for number in range(arguments.rounds + 1):
        _say("warm-up" if number == 0 else f"round {number} of {arguments.rounds}")
        order = peers if number % 2 else peers[::-1]
        for cell in workloads:
            asks = cell.asks(words)
            for peer in order:
                if peer.name in run.failures:
                    continue
                try:
                    answer = await run_cell(peer, asks, arguments.timeout)
                except PeerFailed as failure:
                    await _give_up(peer, failure, run)
                    continue
                if number:
                    run.answers.setdefault((cell.name, peer.name), []).append(answer)


async def _give_up(peer: Peer, failure: PeerFailed, run: Run) -> None:
    """Go on without it; what it had measured before is kept."""
    run.failures[peer.name] = str(failure)
    _say(f"{peer.name} failed: {failure}")
    await peer.stop()


def _summarise(peers: list[Peer], workloads: tuple[Cell, ...], arguments: argparse.Namespace, run: Run) -> Report:
    rows = [
        Row(cell.name, figure.name, figure.unit, peer.name, spread(values), len(values))
        for cell in workloads
        for figure in cell.figures
        for peer in peers
        if (values := run.values(cell.name, peer.name, figure))
    ]
    names = [cell.name for cell in workloads if TOTAL in cell.figures]
    return Report(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.probe_machine().as_dict(),
        versions={name: version for peer in peers for name, version in peer.versions.items()},
        model=arguments.model,
        threads=arguments.threads,
        rounds=arguments.rounds,
        seed=arguments.seed,
        is_quick=arguments.quick,
        are_idle_peers_stopped=HOLDS,
        rows=tuple(rows),
        shares={name: share for name in names if (share := _share(run, name)) is not None},
        failures=run.failures,
    )


def _share(run: Run, workload: str) -> Spread | None:
    return report.http_share(run.values(workload, "ours", TOTAL), run.values(workload, "engine", TOTAL))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
