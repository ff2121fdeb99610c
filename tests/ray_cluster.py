"""A Ray cluster of two nodes on this machine: real processes, real sockets, on 127.0.0.1 alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass
class TwoNodes:
    """A running cluster.

    Attributes:
        address: of the head.
        environment: for programs that join it.
        keeper: the process that started the nodes.
    """

    address: str
    environment: dict[str, str]
    keeper: subprocess.Popen[str]

    def processes(self, name: str) -> list[psutil.Process]:
        """Processes of either node whose titles hold the name, such as ray::Map(answer) or raylet/raylet."""
        found = []
        for process in psutil.Process(self.keeper.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if name in " ".join(process.cmdline()):
                    found.append(process)
        return found


@contextlib.contextmanager
def two_nodes(home: Path) -> Iterator[TwoNodes]:
    """Starts two nodes with a CPU each; ends them."""
    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps 127.0.0.1 where Ray would take the network's address
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "HOME": str(home),
    }
    with tempfile.TemporaryDirectory(prefix="ray") as short:  # paths of Ray's sockets may have 107 characters
        keeper = subprocess.Popen(
            [sys.executable, __file__, short],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "keeper.log").open("wb"),
            text=True,
        )
        cluster = TwoNodes("", environment, keeper)
        try:
            assert keeper.stdout is not None
            cluster.address = keeper.stdout.readline().strip()
            assert cluster.address, (home / "keeper.log").read_text()
            yield cluster
        finally:
            family = psutil.Process(keeper.pid).children(recursive=True) if keeper.poll() is None else []
            with contextlib.suppress(subprocess.TimeoutExpired):
                keeper.communicate(timeout=20)  # the end of its input
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            keeper.kill()


def keep(folder: str) -> None:
    """Keeps two nodes until the input ends."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for more in ({"temp_dir": folder, "include_dashboard": False}, {}):
        cluster.add_node(node_ip_address="127.0.0.1", num_cpus=1, object_store_memory=100_000_000, **more)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    keep(sys.argv[1])
