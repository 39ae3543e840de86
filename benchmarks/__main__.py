"""`python -m benchmarks`: every benchmark, one after another, each in an interpreter of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

QUICK = (
    ["benchmarks.metric_agreement"],
    ["benchmarks.pipeline_speed", "--items", "20000"],
    ["benchmarks.noop"],
    ["benchmarks.live_overhead"],
    ["benchmarks.answer_store", "--answers", "200000", "--asked", "40000"],
    ["benchmarks.report_size"],
    ["benchmarks.calibration", "--quick"],
    ["benchmarks.known_effect", "--runs", "500"],
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run them all; the first failure's code."""
    argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__).parse_args(argv)
    code = 0
    for words in QUICK:
        print(f"\n== {' '.join(words)}", flush=True)
        ended = subprocess.run([sys.executable, "-m", *words], check=False)
        code = code or ended.returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
