"""Training on several nodes: two torchrun agents of one process each, as two machines would start them."""

from __future__ import annotations

import csv
import os
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


IN_A_GROUP = """
import sys
import torch.distributed
torch.distributed.init_process_group("gloo", init_method="env://")
torch.distributed.destroy_process_group()
from yolopose import YOLO
YOLO(sys.argv[1]).train(data=sys.argv[2], batch=4, epochs=1, imgsz=64, plots=False, device="cpu", project=sys.argv[3])
"""


@pytest.mark.slow
def test_processes_of_a_launcher_that_had_its_own_group(tmp_path: Path) -> None:
    """Ray Train creates a process group before it calls the training; the recipe in the docs destroys it."""
    data, model = make_world(tmp_path / "blocks")
    common = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    command = [sys.executable, "-c", IN_A_GROUP, str(model), str(data), str(tmp_path / "runs")]
    processes = []
    for rank in range(2):
        variables = {**common, "RANK": rank, "LOCAL_RANK": rank}
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        processes.append(subprocess.Popen(command, env=environment))
    assert [process.wait(500) for process in processes] == [0, 0]
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["train"]
