"""Trainings in real processes, which tests kill and start again. Run as a script, it is what the tests start.

The libraries are loaded once: the script forks the processes of each round, one round after the other, plan after plan.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

# Loaded before anything is forked.
LIBRARIES = (
    "pandas",
    "scipy.interpolate",
    "secondstage.cli",
    "secondstage.mine",
    "secondstage.serve",
    "secondstage.train.loop",
    "sentence_transformers",
    "sklearn.utils",
    "torch._dynamo",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
)
# Seconds that a plan may take.
PATIENCE = 300


class Blow(NamedTuple):
    """What happens to a process, when it comes to a place for the first time after so many steps.

    Attributes:
        rank: of the process.
        step: optimizer steps made.
        what: the signal that it sends itself; or "full": writing fails, as on a full disk.
        where: "step", before one is made; "evaluation", before dev is reranked; "checkpoint", when half of it is there.
    """

    rank: int
    step: int
    what: str = "KILL"
    where: str = "step"


class Round(NamedTuple):
    """Processes that run together.

    Attributes:
        size: how many.
        jobs: made one after the other: the words of a command line; a script and its arguments, what it prints going
            into a file of its own; or what `share` is given: the folders of collection and lists, the settings, and
            the folder to work in.
        blows: what happens to them.
        environment: of all.
    """

    size: int
    jobs: Sequence[Any]
    blows: Sequence[Blow] = ()
    environment: dict[str, str] = {}  # noqa: RUF012 # never changed


class Ended(NamedTuple):
    """How a process ended: its exit code, negative for a signal, and what it wrote."""

    code: int
    output: str


class Driver:
    """The process that has loaded the libraries and forks. Each test process starts one, when it is first needed."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 # closed with the process
        # A group of its own, so that what it forked can be ended with it.
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            bufsize=0,
            start_new_session=True,
        )

    def play(self, folder: Path) -> None:
        """Have it play the plan in a folder, and wait until it has."""
        pipes = self._process
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        try:
            pipes.stdin.write(f"{folder}\n".encode())
            ready, _, _ = select.select([pipes.stdout], [], [], PATIENCE)
            played = bool(ready and pipes.stdout.read(1))
        except BrokenPipeError:
            played = False
        if not played:
            self._said.seek(0)
            said = self._said.read()
            self.close()
            raise AssertionError(f"the plan in {folder} was not played to its end: {said}")

    def close(self) -> None:
        """End it and its processes, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._said.close()
        driver.cache_clear()


@cache
def driver() -> Driver:
    """That of this process."""
    found = Driver()
    atexit.register(found.close)
    return found


def play(rounds: Sequence[Round], folder: Path) -> list[list[Ended]]:
    """Play the rounds, and tell how the processes of each ended, by rank."""
    folder.mkdir(exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(rounds))
    driver().play(folder)
    codes = json.loads((folder / "codes.json").read_text())
    return [
        [Ended(code, (folder / f"{number}-{rank}.log").read_text()) for rank, code in enumerate(row)]
        for number, row in enumerate(codes)
    ]


def launch(script: str, size: int, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Run a script in `size` processes that know of each other, as a launcher would."""
    with tempfile.TemporaryDirectory() as place:
        ((*ended,),) = play([Round(size, [{"script": script, "arguments": arguments}])], Path(place))
        said = [(Path(place) / f"0-{rank}.out").read_text() for rank in range(size)]
    return [
        subprocess.CompletedProcess([script, *arguments], one.code, out, one.output)
        for one, out in zip(ended, said, strict=True)
    ]


def _drive() -> None:
    """Load the libraries, and play the plan of every folder that is named."""
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        _play(Path(line.rstrip("\n")))
        print(end=".", flush=True)


def _play(folder: Path) -> None:
    codes = []
    told: dict[str, str] = {}
    for number, (size, jobs, blows, environment) in enumerate(json.loads((folder / "plan.json").read_text())):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size), **environment}
        children = []
        for rank in range(size):
            if not (child := os.fork()):
                os.environ.update({**told, "RANK": str(rank), "LOCAL_RANK": str(rank)})
                own = [Blow(*blow) for blow in blows if blow[0] == rank]
                _run(jobs, own, folder / f"{number}-{rank}.log")
            children.append(child)
        codes.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    (folder / "codes.json").write_text(json.dumps(codes))


def _run(jobs: Sequence[Any], blows: Sequence[Blow], log: Path) -> None:
    _redirect(0, Path(os.devnull), os.O_RDONLY)
    for descriptor in (1, 2):
        _redirect(descriptor, log)
    code = 1
    try:
        _prepare(blows)
        for job in jobs:
            code = _do(job, log)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()
        os._exit(code)


def _redirect(descriptor: int, path: Path, flags: int = os.O_WRONLY | os.O_CREAT | os.O_APPEND) -> None:
    opened = os.open(path, flags)
    os.dup2(opened, descriptor)
    os.close(opened)


def _do(job: Any, log: Path) -> int:
    if isinstance(job, list):
        from secondstage.cli import main

        return main(job)
    if "script" in job:
        _redirect(1, log.with_suffix(".out"))
        sys.argv = ["script", *job["arguments"]]
        exec(compile(job["script"], "script", "exec"), {"__name__": "__main__"})
        return 0
    from secondstage.collection import Collection
    from secondstage.config import TrainConfig
    from secondstage.train import Task, share

    collection = Collection.load(Path(job["collection"]))
    share(Task(collection, Path(job["mined"]), TrainConfig(**job["settings"]), 13), Path(job["work"]))
    return 0


def _prepare(blows: Sequence[Blow]) -> None:
    """Have the blows fall, and the state at the end of a training written."""
    import torch

    from secondstage.train.checkpoint import Checkpoints
    from secondstage.train.loop import Loop

    for blow in blows:
        if blow.where == "checkpoint":
            _strike_writing(Checkpoints, blow)
        else:
            _strike(Loop, "_step" if blow.where == "step" else "_evaluate", blow)
    finish = Loop._finish

    def finishing(self: Loop, seconds: float) -> dict[str, Any]:
        if not self.weights.lockstep:
            torch.save(self.weights.state(), self.folder / f"end-{self.team.rank}.pt")
        return finish(self, seconds)

    Loop._finish = finishing  # type: ignore[method-assign]


def _strike(owner: Any, name: str, blow: Blow) -> None:
    method: Callable[..., Any] = getattr(owner, name)

    def struck(self: Any, *arguments: Any, **named: Any) -> Any:
        if self.done.steps == blow.step:
            os.kill(os.getpid(), getattr(signal, f"SIG{blow.what}"))
        return method(self, *arguments, **named)

    setattr(owner, name, struck)


def _strike_writing(owner: Any, blow: Blow) -> None:
    import torch

    write, save = owner.write, torch.save

    def writing(self: Any, step: int, *arguments: Any) -> Any:
        def half(tensors: Any, path: Path) -> None:
            save(tensors, path)
            if step == blow.step:
                os.truncate(path, path.stat().st_size // 2)
                if blow.what == "full":
                    raise OSError(28, "No space left on device", str(path))
                os.kill(os.getpid(), getattr(signal, f"SIG{blow.what}"))

        torch.save = half  # type: ignore[assignment]
        try:
            return write(self, step, *arguments)
        finally:
            torch.save = save

    owner.write = writing


if __name__ == "__main__":
    _drive()
