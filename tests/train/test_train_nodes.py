"""Training on several nodes: two torchrun agents of one process each, as two machines would start them."""

from __future__ import annotations

import csv
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from train_worlds import FAST, make_world


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_losses(run: Path) -> dict[str, float]:
    with (run / "results.csv").open() as lines:
        return {key: float(value) for key, value in next(csv.DictReader(lines)).items() if "train/" in key}


@pytest.mark.slow
@pytest.mark.parametrize("rendezvous", ["c10d", "static"])
def test_two_nodes_train_like_one_process(tmp_path: Path, rendezvous: str) -> None:
    data, model = make_world(tmp_path / "blocks")
    values = {**FAST, "epochs": 2, "batch": 4, "optimizer": "SGD", "data": data, "model": model, "device": "cpu"}
    port = free_port()

    def command(name: str, launcher: list[str]) -> list[str]:
        options = [f"{key}={value}" for key, value in {**values, "project": tmp_path / "runs", "name": name}.items()]
        return [sys.executable, *launcher, "-m", "yolopose", "pose", "train", *options]

    def node(rank: int) -> subprocess.Popen[str]:
        place = (
            ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "job"]
            if rendezvous == "c10d"
            else ["--node-rank", str(rank), "--master-addr", "127.0.0.1", "--master-port", str(port)]
        )
        launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *place]
        launcher += ["--local-addr", "127.0.0.1"]
        return subprocess.Popen(command("nodes", launcher), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    nodes = [node(rank) for rank in range(2)]
    outputs = [process.communicate(timeout=500)[0] for process in nodes]
    assert [process.returncode for process in nodes] == [0, 0], "\n".join(outputs)
    subprocess.run(command("single", []), check=True, capture_output=True, timeout=300)
    single, both = tmp_path / "runs/single", tmp_path / "runs/nodes"
    # batch norms see half as many images at once, so the losses are close, not equal
    assert first_losses(both) == pytest.approx(first_losses(single), rel=0.1)
    assert len((both / "results.csv").read_text().splitlines()) == 3
    assert sum("Results saved to" in output for output in outputs) <= 1  # only the main process logs
    assert not (tmp_path / "runs/nodes2").exists()
