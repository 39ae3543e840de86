"""How heavy and how quick a large report is: SQuAD 2.0 dev, 11,873 items in two arms, asked of the simulated provider.

    python -m benchmarks.report_size [REPORT.html] [--throttle N] [--screenshots FOLDER]

Without an argument it makes the report first: `doit run --dry_run` on SQuAD dev in a temporary folder. Then it opens the report from
disk in headless Chromium and prints its weight, the times to first paint and until the explorer is ready, and the time that each filter
and search takes (event to laid-out page; best, median and worst of nine), and how long the page is deaf while somebody types a word.
`--throttle N` slows the browser's processor N times (DevTools protocol); `--screenshots` keeps pictures in light, dark and phone width.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.shared_data import FOLDER

REPO = Path(__file__).resolve().parents[1]
CONFIG = """
title: SQuAD 2.0 dev, simulated
provider: {{name: simulated}}
model_id: simulated
temps: [0.0]
sources: {{open_book: [{{kind: squad_v2, path: {squad}}}]}}
task_instructions: {{open_book: config/task_instructions/open_book.txt, closed_book: config/task_instructions/closed_book.txt}}
default_prompt_set: operational_only
prompt_sets:
  operational_only: {{control: config/prompts/control.txt, treatment: config/prompts/operational_only.txt}}
primary: {{metric: correct, type: all, alternative: two-sided, margin: 0.02}}
"""
BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
BROWSER += ["--disable-component-update", "--disable-sync"]
ACTIONS = [
    ("first search (builds the index)", "f-q", "normandy"),
    ("search: normandy", "f-q", "normandy"),
    ("search: who was the", "f-q", "who was the"),
    ("search: nothing found", "f-q", "zzzz"),
    ("answers differ", "f-flag", "differ"),
    ("abstained, either arm", "f-flag", "abstained"),
    ("judged by f1", "f-metric", "f1"),
    ("largest loss first", "f-sort", "loss"),
]
MEASURE = """([id, value, times]) => {
    const field = document.getElementById(id), before = field.value, taken = [];
    for (let i = 0; i < times; i++) {
        field.value = value;
        const start = performance.now();
        field.dispatchEvent(new Event("input", { bubbles: true }));
        field.dispatchEvent(new Event("change", { bubbles: true }));  // as Enter: search at once, without waiting for a pause
        document.body.offsetHeight;
        taken.push(performance.now() - start);
        field.value = before;
        field.dispatchEvent(new Event("input", { bubbles: true }));
        field.dispatchEvent(new Event("change", { bubbles: true }));
    }
    return taken;
}"""
DEAF = """() => {
    window.deaf = [];
    new PerformanceObserver((list) => window.deaf.push(...list.getEntries().map((e) => e.duration))).observe({ type: "longtask" });
}"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def make_report(folder: Path) -> Path:
    """Run the dry run on SQuAD dev below `folder`; returns the trial's report.html. Exits with the run's own message if it fails."""
    squad = FOLDER / "squad/dev-v2.0.json"
    if not squad.exists():
        raise SystemExit(f"{squad.name} is not here: set ABIDING_SHARED_DATA to the folder that holds squad/dev-v2.0.json")
    config = folder / "squad.yaml"
    config.write_text(CONFIG.format(squad=squad), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "doit",
        "run",
        "--config",
        str(config),
        "--dry_run",
        "--experiments_dir",
        str(folder / "experiments"),
        "--quiet",
    ]
    subprocess.run([*command, "--max_usd", "100"], cwd=REPO, check=True, env={**os.environ, "NO_COLOR": "1"})
    return next(folder.glob("experiments/run_*/*/reports/report.html"))


def measure(report: Path, throttle: float = 1) -> dict[str, Any]:
    """Weights in bytes, times in milliseconds, heap in bytes, in a browser `throttle` times slower than this machine."""
    from playwright.sync_api import sync_playwright

    data = report.read_bytes()
    found: dict[str, Any] = {"bytes": len(data), "gzip": len(gzip.compress(data, mtime=0))}
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as p:
        context = p.chromium.launch_persistent_context(profile, executable_path=shutil.which("chromium"), args=BROWSER)
        paints, readies = [], []
        for _ in range(5):
            page = context.new_page()
            context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": throttle})
            started = time.perf_counter()
            page.goto(report.resolve().as_uri(), wait_until="commit")
            page.wait_for_selector("html[data-explorer=ready]", state="attached")
            readies.append(1000 * (time.perf_counter() - started))
            page.wait_for_function(f"{PAINT} !== undefined")
            paints.append(page.evaluate(PAINT))
            if len(paints) < 5:
                page.close()
        found["first_paint"], found["ready"] = statistics.median(paints), statistics.median(readies)
        found["items"] = page.locator("#status").text_content()
        found["actions"] = {}
        for name, field, value in ACTIONS:
            taken = page.evaluate(MEASURE, [field, value, 1 if name.startswith("first") else 9])
            found["actions"][name] = (min(taken), statistics.median(taken), max(taken))
        page.evaluate(DEAF)
        page.locator("#f-q").press_sequentially("normandy", delay=80)
        page.wait_for_timeout(1_000)
        found["deaf"] = sorted(page.evaluate("window.deaf"))
        page.evaluate("document.querySelector('#entries summary').click()")
        found["heap"] = page.evaluate("performance.memory.usedJSHeapSize")
        context.close()
    return found


def screenshots(report: Path, folder: Path) -> None:
    """Write light.png, dark.png and phone.png of the report's head, and items.png of an opened item."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as p:
        context = p.chromium.launch_persistent_context(profile, executable_path=shutil.which("chromium"), args=BROWSER)
        page = context.new_page()
        for name, width in (("light", 1180), ("dark", 1180), ("phone", 375)):
            page.emulate_media(color_scheme="dark" if name == "dark" else "light")
            page.set_viewport_size({"width": width, "height": 820})
            page.goto(report.resolve().as_uri())
            page.wait_for_selector("html[data-explorer=ready]", state="attached")
            page.screenshot(path=folder / f"{name}.png")
        page.set_viewport_size({"width": 1180, "height": 820})
        page.locator("#entries summary").first.click()
        page.locator("#items").scroll_into_view_if_needed()
        page.evaluate("document.getElementById('items').scrollIntoView()")
        page.screenshot(path=folder / "items.png")
        context.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Make or take the report, measure it, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="?", type=Path, help="an existing report.html")
    parser.add_argument("--throttle", type=float, default=1, metavar="N", help="slow the browser's processor N times")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="keep pictures of the report there")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        report = given.report or make_report(Path(folder))
        found = measure(report, given.throttle)
        if given.screenshots:
            screenshots(report, given.screenshots)
    if given.json:
        print(json.dumps(found, indent=2))
        return 0
    weight = f"{found['bytes'] / 1e6:.2f} MB ({found['gzip'] / 1e6:.2f} MB gzipped)"
    print(f"{found['items']} items; page {weight}; JavaScript heap {found['heap'] / 1e6:.0f} MB")
    print(f"first contentful paint {found['first_paint']:.0f} ms, explorer ready {found['ready']:.0f} ms (medians of 5)")
    deaf = ", ".join(f"{t:.0f} ms" for t in found["deaf"]) or "none"
    print(f"tasks of 50 ms or more while eight letters are typed and the search is done: {deaf}")
    print("\n| action | best ms | median ms | worst ms |\n| --- | ---: | ---: | ---: |")
    for name, taken in found["actions"].items():
        print(f"| {name} | {' | '.join(f'{t:.1f}' for t in taken)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
