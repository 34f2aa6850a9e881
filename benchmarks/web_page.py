"""Milliseconds a frame of pages that `format=web` wrote, in Chromium without a window, on the processor.

    python benchmarks/web_page.py --pages a_web_page b_web_page --image bus.jpg [--frames 20] [--threads]

Prints the processor time of the page's worker for each frame, which other work on the machine changes little, and the
least and median time on the clock. `--threads` serves the pages with the headers that threads take.
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

WARM = 3
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
NEXT = "window.told = new Promise((done) => document.addEventListener('poses', (e) => done(e.detail), { once: true }));"


class Files(SimpleHTTPRequestHandler):
    headers_too: dict[str, str] = {}  # noqa: RUF012

    def end_headers(self) -> None:
        for name, value in self.headers_too.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


def started(profile: str) -> Any:
    """A browser without a window."""
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    flags = ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking")
    for flag in (*flags, "disable-dev-shm-usage", f"user-data-dir={profile}"):
        chosen.add_argument(f"--{flag}")
    return webdriver.Chrome(options=chosen, service=webdriver.ChromeService(shutil.which("chromedriver")))


def worker_milliseconds(profile: str) -> float:
    """Processor time that the workers of a browser have used so far; those of Linux's /proc."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if profile.encode() not in (process / "cmdline").read_bytes():
                continue
            for task in (process / "task").iterdir():
                if (task / "comm").read_text().startswith("DedicatedWorker"):
                    total += int((task / "schedstat").read_text().split()[0])
        except OSError:  # it has ended
            continue
    return total / 1e6


def measure(page: Path, image: Path, frames: int, headers: dict[str, str]) -> str:
    """The row of one page."""
    handler = type("Served", (Files,), {"headers_too": headers})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=page))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = started(profile)
        try:
            browser.get(f"http://127.0.0.1:{server.server_port}/")
            while not browser.execute_script("return document.documentElement.classList.contains('ready')"):
                time.sleep(0.1)
            clock: list[float] = []
            for number in range(WARM + frames):
                if number == WARM:
                    before = worker_milliseconds(profile)
                browser.execute_script(NEXT)
                browser.find_element("id", "file").send_keys(str(image.resolve()))
                clock.append(sum(browser.execute_async_script("window.told.then(arguments[0])")["times"].values()))
            spent = (worker_milliseconds(profile) - before) / frames
        finally:
            browser.quit()
            server.shutdown()
    clock = clock[WARM:]
    return f"{page.name}: {spent:.0f} ms of the processor; on the clock {min(clock):.0f}, median {median(clock):.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", nargs="+", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--threads", action="store_true")
    given = parser.parse_args()
    for page in given.pages:
        print(measure(page, given.image, given.frames, ISOLATED if given.threads else {}), flush=True)


if __name__ == "__main__":
    main()
