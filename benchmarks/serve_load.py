"""Load on `yolo serve` beside a plain FastAPI handler and LitServe around the same model, and the bare engine.

    python benchmarks/serve_load.py model.onnx image.jpg --seconds 60
    python benchmarks/serve_load.py model.onnx image.jpg --servers yolopose --soak 1200

Each server runs in a process of its own on the given cores, and so does the client. FastAPI and LitServe run in another
environment, `--python`, which needs yolopose (or PYTHONPATH), fastapi, litserve, python-multipart and uvicorn. The
servers take turns for each number of clients, so that a change of the machine's load meets all of them. Every request
sends the image as its body and reads the poses as JSON; a status other than 200, or a connection that ends, is a
failure.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    from litserve import LitAPI
except ImportError:
    LitAPI = object

ROOT = Path(__file__).parents[1]
SERVERS = {
    "yolopose": "yolo serve, batch=8",
    "yolopose-1": "yolo serve, batch=1",
    "fastapi": "FastAPI, plain handler",
    "litserve": "LitServe, batch=8",
}


# -- servers -----------------------------------------------------------------------------------------------------


def run_fastapi(model: str, port: int) -> None:
    """A handler as in tutorials: decode, predict, return; FastAPI runs it in its thread pool, the model has a lock."""
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.concurrency import run_in_threadpool

    from yolopose import YOLO
    from yolopose.data.images import decode_image

    app, network, lock = FastAPI(), YOLO(model), threading.Lock()

    def predict(data: bytes) -> list[dict[str, Any]]:
        image = decode_image(data, "image")
        with lock:
            (result,) = network.predict(image, verbose=False)
        return result.summary()

    async def handler(request) -> list[dict[str, Any]]:  # FastAPI evaluates annotations
        return await run_in_threadpool(predict, await request.body())

    handler.__annotations__ = {"request": Request}
    app.post("/predict")(handler)
    uvicorn.run(app, port=port, log_level="warning")


class Poses(LitAPI):
    """The model in LitServe; images are base64 in JSON, as in its examples."""

    path = os.environ.get("SERVE_LOAD_MODEL", "")

    def setup(self, device: str) -> None:
        from yolopose import YOLO

        self.model = YOLO(self.path)

    def decode_request(self, request: dict[str, str]) -> Any:
        from yolopose.data.images import decode_image

        return decode_image(base64.b64decode(request["image"]), "image")

    def batch(self, inputs: list[Any]) -> list[Any]:
        return list(inputs)

    def predict(self, images: list[Any]) -> list[Any]:
        return self.model.predict(images, batch=len(images), verbose=False)

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> Any:
        return output.summary()


def run_litserve(model: str, port: int) -> None:
    import litserve

    os.environ["SERVE_LOAD_MODEL"] = model  # its worker process imports this file again
    server = litserve.LitServer(Poses(max_batch_size=8, batch_timeout=0.005), accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


def start(name: str, model: str, python: str, cores: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server and wait until it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if name.startswith("yolopose"):
        batch = 1 if name.endswith("-1") else 8
        options = [f"model={model}", f"port={port}", f"batch={batch}", "queue=1024", "verbose=False"]
        command = [sys.executable, "-m", "yolopose", "serve", *options]
    else:
        command = [python, __file__, model, "-", "--run", name, "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = ["taskset", "-c", cores, *command]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
            if process.poll() is not None:
                break
        else:
            return process, port
    process.kill()
    raise SystemExit(f"{name} does not start")


def memory(process: int) -> float:
    """Resident memory of a process and its children, MiB."""
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(path.parent.name) == process or int(fields[1]) == process:
                total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        except (OSError, IndexError, ValueError):
            continue
    return total


# -- clients -----------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """What the clients of one run measured."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    duration: float = 0.0

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.duration


async def client(port: int, request: bytes, end: float, load: Load) -> None:
    """Send one request after the other on a connection that stays open."""
    reader: asyncio.StreamReader | None = None
    while time.perf_counter() < end:
        started = time.perf_counter()
        try:
            if reader is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            if head.split()[1] == b"200":
                load.seconds.append(time.perf_counter() - started)
            else:
                load.failed += 1
        except (OSError, asyncio.IncompleteReadError, IndexError):
            load.failed += 1
            reader = None


async def run_clients(port: int, request: bytes, count: int, seconds: float) -> Load:
    load = Load()
    started = time.perf_counter()
    await asyncio.gather(*(client(port, request, started + seconds, load) for _ in range(count)))
    load.duration = time.perf_counter() - started
    return load


def http_request(name: str, image: bytes) -> bytes:
    body, kind = image, "image/jpeg"
    if name == "litserve":
        body, kind = json.dumps({"image": base64.b64encode(image).decode()}).encode(), "application/json"
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


# -- measurements ------------------------------------------------------------------------------------------------

ENGINE = """
import sys, time
from yolopose import YOLO
from yolopose.data.images import decode_image
model, data = YOLO(sys.argv[1]), open(sys.argv[2], "rb").read()
seconds = float(sys.argv[3])
one = lambda: model.predict(decode_image(data, "image"), verbose=False)[0].summary()
one()
times = []
end = time.perf_counter() + seconds
while time.perf_counter() < end:
    start = time.perf_counter(); one(); times.append(time.perf_counter() - start)
print(1000 * sorted(times)[len(times) // 2])
for _ in model.predict([sys.argv[2]] * 16, batch=8, stream=True, verbose=False): pass
start, count = time.perf_counter(), 0
while time.perf_counter() < start + seconds:
    for result in model.predict([sys.argv[2]] * 64, batch=8, stream=True, verbose=False):
        result.summary(); count += 1
print(count / (time.perf_counter() - start))
"""


def engine(model: str, image: str, seconds: float, cores: str) -> tuple[float, float]:
    """Return milliseconds of one image in the process (decode, predict, summary), and images/s of batches of 8."""
    command = ["taskset", "-c", cores, sys.executable, "-c", ENGINE, model, image, str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    lines = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    return float(lines[-2]), float(lines[-1])


def compare(options: argparse.Namespace, image: bytes) -> None:
    names = options.servers.split(",")
    running = {name: start(name, options.model, options.python, options.cores) for name in names}
    print("| clients | server | requests/s | p50 ms | p95 ms | p99 ms | failed | memory MiB | of the engine |")
    print("|---|---|---|---|---|---|---|---|---|")
    try:
        for name, (_, port) in running.items():
            asyncio.run(run_clients(port, http_request(name, image), 2, 3))  # warm-up
        for count in map(int, options.clients.split(",")):
            latency, rate = engine(options.model, options.image, min(options.seconds, 10), options.cores)
            print(f"| {count} | bare engine | {rate:.1f} | {latency:.1f} | | | | | |", flush=True)
            for name, (process, port) in running.items():
                load = asyncio.run(run_clients(port, http_request(name, image), count, options.seconds))
                values = [load.percentile(share) for share in (0.5, 0.95, 0.99)]
                texts = " | ".join(f"{value:.1f}" for value in values)
                share = f"{100 * load.rate / rate:.0f} %"
                row = f"| {count} | {SERVERS[name]} | {load.rate:.1f} | {texts} | {load.failed} |"
                print(f"{row} {memory(process.pid):.0f} | {share} |", flush=True)
    finally:
        for process, _ in running.values():
            stop(process)


def soak(options: argparse.Namespace, image: bytes) -> None:
    """Print rate, latency, failures and memory each minute."""
    process, port = start("yolopose", options.model, options.python, options.cores)
    print("| minute | requests | requests/s | p50 ms | p99 ms | failed | memory MiB |\n|---|---|---|---|---|---|---|")
    try:
        end = time.perf_counter() + options.soak
        minute = 0
        while time.perf_counter() < end:
            minute += 1
            load = asyncio.run(run_clients(port, http_request("yolopose", image), 16, min(60, options.soak)))
            values = f"{load.rate:.1f} | {load.percentile(0.5):.1f} | {load.percentile(0.99):.1f} | {load.failed}"
            print(f"| {minute} | {len(load.seconds)} | {values} | {memory(process.pid):.1f} |", flush=True)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="exported file")
    parser.add_argument("image", help="JPEG that each request sends")
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--clients", default="1,8,16,64,200")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--soak", type=float, default=0, help="seconds of load by 16 clients, instead of the comparison"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter with FastAPI and LitServe")
    parser.add_argument("--cores", default=f"0-{(os.cpu_count() or 1) - 1}", help="as for taskset")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        {"fastapi": run_fastapi, "litserve": run_litserve}[options.run](options.model, options.port)
        return
    image = Path(options.image).read_bytes()
    if options.soak:
        soak(options, image)
    else:
        compare(options, image)


if __name__ == "__main__":
    main()
