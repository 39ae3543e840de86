"""`python -m benchmarks`: every benchmark, one after another, each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

QUICK = (
    ["benchmarks.metric_agreement"],
    ["benchmarks.pipeline_speed", "--items", "20000"],
    ["benchmarks.noop"],
    ["benchmarks.report_size"],
    ["benchmarks.calibration", "--quick"],
)


def main() -> int:
    """Run them; the first failure's code."""
    code = 0
    for words in QUICK:
        print(f"\n== {' '.join(words)}", flush=True)
        code = code or subprocess.run([sys.executable, "-m", *words], check=False).returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
