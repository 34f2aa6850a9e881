"""Milliseconds per frame of exported pages (`format=web`) in headless Chromium on the CPU.

    python benchmarks/web_page.py --pages a_web_page b_web_page --image bus.jpg [--frames 20] [--threads]

Prints the CPU time of the page's worker per frame, which other load on the machine changes little, and the minimum and
median wall time. `--threads` serves the pages with the headers that threads need.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

from selenium import webdriver

WARM_UP = 3
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
LISTEN = (
    "window.result = new Promise((done) => document.addEventListener('poses', (e) => done(e.detail), { once: true }));"
)


class Files(SimpleHTTPRequestHandler):
    extra_headers: dict[str, str] = {}  # noqa: RUF012

    def end_headers(self) -> None:
        for name, value in self.extra_headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


def start_browser(profile: str) -> Any:
    """Start a headless browser."""
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    flags = ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking")
    for flag in (*flags, "disable-dev-shm-usage", f"user-data-dir={profile}"):
        chosen.add_argument(f"--{flag}")
    return webdriver.Chrome(options=chosen, service=webdriver.ChromeService(shutil.which("chromedriver")))


def worker_milliseconds(profile: str) -> float:
    """Return the CPU time that the workers of a browser have used so far, from /proc."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if profile.encode() not in (process / "cmdline").read_bytes():
                continue
            for task in (process / "task").iterdir():
                if (task / "comm").read_text().startswith("DedicatedWorker"):
                    total += int((task / "schedstat").read_text().split()[0])
        except OSError:  # the process has ended
            continue
    return total / 1e6


def measure(page: Path, image: Path, frames: int, headers: dict[str, str]) -> str:
    """Return the result line of one page."""
    handler = type("Served", (Files,), {"extra_headers": headers})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=page))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = start_browser(profile)
        try:
            browser.get(f"http://127.0.0.1:{server.server_port}/")
            while not browser.execute_script("return document.documentElement.classList.contains('ready')"):
                time.sleep(0.1)
            wall_times: list[float] = []
            for number in range(WARM_UP + frames):
                if number == WARM_UP:
                    before = worker_milliseconds(profile)
                browser.execute_script(LISTEN)
                browser.find_element("id", "file").send_keys(str(image.resolve()))
                wall_times.append(
                    sum(browser.execute_async_script("window.result.then(arguments[0])")["times"].values())
                )
            cpu_time = (worker_milliseconds(profile) - before) / frames
        finally:
            browser.quit()
            server.shutdown()
    wall_times = wall_times[WARM_UP:]
    minimum = min(wall_times)
    return f"{page.name}: {cpu_time:.0f} ms CPU time; wall time {minimum:.0f} ms, median {median(wall_times):.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", nargs="+", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--threads", action="store_true")
    args = parser.parse_args()
    for page in args.pages:
        print(measure(page, args.image, args.frames, ISOLATED if args.threads else {}), flush=True)


if __name__ == "__main__":
    main()
