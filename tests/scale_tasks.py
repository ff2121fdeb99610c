"""Tasks that Ray's workers do in tests, and the program that hands them out; workers import them from here."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from img2prompt.errors import DataError, Img2PromptError
from img2prompt.jobs.pairs.scale import Cluster, run_many
from img2prompt.jobs.pairs.scale_ray import connected
from img2prompt.pairs.atomic import write_atomically


@dataclass(frozen=True)
class WriteTask:
    """A file to be written, and what goes wrong with it."""

    out: Path
    fault: str = ""  # "kill": at the first attempt; "always kill"; "data"; "sleep"; "bug"


def write(task: WriteTask) -> dict[str, Any]:
    """Writes the file once; says which process did, and whether now."""
    attempts = task.out.with_suffix(".attempts")
    with attempts.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if task.out.exists():
        return {"out": task.out.name, "made": False, "pid": os.getpid()}
    if task.fault == "always kill" or (task.fault == "kill" and len(attempts.read_text().split()) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if task.fault == "data":
        raise DataError(f"{task.out.name}: cut in the middle; make it again")
    if task.fault == "bug":
        raise ZeroDivisionError("a programming error")
    if task.fault == "sleep":
        time.sleep(60)
    write_atomically(task.out, task.out.name.encode())
    return {"out": task.out.name, "made": True, "pid": os.getpid()}


class Writer:
    """Work that has to load something first."""

    def __init__(self, prefix: str) -> None:
        if prefix == "missing":
            raise DataError("no such model; get it with: hf download it")
        self.prefix, self.calls = prefix, 0

    def __call__(self, task: WriteTask) -> dict[str, Any]:
        """Counts its calls: one instance serves many tasks."""
        self.calls += 1
        write_atomically(task.out, self.prefix.encode())
        return {"out": task.out.name, "calls": self.calls}


def _told(folder: Path, faults: list[str], settings: dict[str, Any], work: Any = write, **more: Any) -> dict[str, Any]:
    """Reports by name, the error, and the seconds of a run over files in a folder of their own."""
    folder.mkdir(exist_ok=True)
    tasks = [WriteTask(folder / f"{number}.txt", fault) for number, fault in enumerate(faults)]
    begun, reports, error = time.monotonic(), [], ""
    try:
        for report in run_many(work, tasks, cluster=Cluster(**settings), folder=folder, **more):
            reports.append(report)
    except Img2PromptError as caught:
        error = f"{type(caught).__name__}: {caught}"
    except Exception as caught:
        error = f"bug {caught}"
    reports.sort(key=lambda report: report["out"])
    return {"reports": reports, "error": error, "seconds": time.monotonic() - begun}


def drive(root: Path) -> dict[str, Any]:
    """Everything that a session on one machine is tested for; one start of Ray is seconds long."""
    settings = {"workers": 1, "attempts": 2}
    with connected(Cluster(workers=1)):
        return {
            "first": _told(root / "a", ["", "kill", "", ""], settings),
            "again": _told(root / "a", ["", "", "", ""], settings),
            "data": _told(root / "c", ["data"], settings),
            "bug": _told(root / "d", ["bug"], settings),
            "nothing": _told(root / "f", [], settings),
            "actors": _told(root / "b", [""] * 3, settings, Writer, arguments=["prefix"]),
            "poison": _told(root / "e", ["", "always kill"], settings),
            "sockets": sockets(),
            "silence": _told(root / "g", ["sleep"], {**settings, "timeout_s": 2}),
        }


def sockets() -> list[str]:
    """Addresses on which descendants of this process listen."""
    import psutil

    family = psutil.Process().children(recursive=True)
    return sorted(
        {
            f"{connection.laddr.ip} of {process.name()}"
            for process in family
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
    )


if __name__ == "__main__":
    import scale_tasks  # workers know this module by its name, not as __main__

    print(json.dumps(scale_tasks.drive(Path(sys.argv[1]))))
