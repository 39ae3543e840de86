"""Does the whole path tell the truth? The simulated provider's answers, scored and analysed like real ones, against its known effect.

    python -m benchmarks.known_effect [--runs N]

Each run asks the bundled sample anew (its items under new ids, so that the provider draws anew), writes predictions.csv, scores it, reads
the scores and analyses them. Prints a Markdown table: how often the 95% interval of the effect on `correct` holds the true effect, with the
exact binomial interval of that share. Exit 1 where that interval lies outside 94 to 96%.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from scipy import stats

from pipeline.base.digests import digest, sha256_bytes
from pipeline.base.rows import Item, Place, RequestRow, encode, read_rows
from pipeline.experiment import TYPES
from pipeline.providers.simulated import SimulatedProvider
from pipeline.scoring.files import score_file
from pipeline.scoring.settings import ScoringSettings
from pipeline.statistics.analysis import analyse
from pipeline.statistics.settings import AnalysisSettings, TrialInfo
from pipeline.statistics.table import read_scores
from pipeline.steps.parse import COLUMNS, line

SAMPLE = Path(__file__).resolve().parents[1] / "config" / "sample"
ACCURACY = {"control": 0.55, "treatment": 0.67}
SETTINGS = AnalysisSettings(bootstrap_samples=1, permutation_samples=1, enable_permutation=False)
TRIAL = TrialInfo("t", "treatment_vs_control", "control", "treatment", "simulated")


def sample(seed: int) -> dict[str, list[Item]]:
    """The bundled items under ids of this seed."""
    found = {kind: list(read_rows(SAMPLE / f"{kind}_book.jsonl", Item)) for kind in TYPES}
    return {kind: [msgspec.structs.replace(item, id=f"{item.id}#{seed}") for item in items] for kind, items in found.items()}


def answered(items: dict[str, list[Item]], accuracy: dict[str, float]) -> Iterator[str]:
    """The lines of predictions.csv: every item asked in both conditions, whose system prompt is their name."""
    by_place = {(item.dataset, item.id): item for found in items.values() for item in found}
    known = {sha256_bytes(condition.encode()): p for condition, p in accuracy.items()}
    provider = SimulatedProvider(Path("unused"), lambda dataset, id_: by_place[dataset, id_], {}, known)
    for condition in accuracy:
        for kind in TYPES:
            for item in items[kind]:
                custom_id = digest([condition, item.key, kind])[:32]
                place = Place(dataset=item.dataset, item_id=item.id, type="open" if kind == "open" else "closed", temp=0.0, sample_index=0)
                body = {"messages": [{"role": "system", "content": condition}, {"role": "user", "content": item.question}]}
                request = RequestRow(custom_id=custom_id, answer_key=custom_id, place=place, body=body)
                yield line(request, provider.answer(request), condition, condition, "simulated")


def interval(folder: Path, seed: int, accuracy: dict[str, float]) -> tuple[float, float, bool]:
    """One analysis: the ends of the 95% interval of the primary effect, and whether the verdict claims a difference."""
    items = sample(seed)
    predictions, scores = folder / "predictions.csv", folder / "per_item_scores.csv"
    predictions.write_text("".join([",".join(COLUMNS) + "\n", *answered(items, accuracy)]), encoding="utf-8")
    files = {kind: folder / f"{kind}.jsonl" for kind in TYPES}
    for kind, path in files.items():
        path.write_bytes(b"".join(encode(item) + b"\n" for item in items[kind]))
    score_file(predictions, files, scores, ScoringSettings(), processes=1)
    verdict = analyse({"t": read_scores(scores)}, {"t": TRIAL}, SETTINGS, "t")["verdict"]
    return verdict["low"], verdict["high"], verdict["verdict"] in ("better", "worse")


def main(argv: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.known_effect", description="The simulated provider's known effect, found.")
    parser.add_argument("--runs", type=int, default=2000, help="analyses (default 2000)")
    runs = parser.parse_args(argv).runs
    effect = ACCURACY["treatment"] - ACCURACY["control"]
    with tempfile.TemporaryDirectory() as folder:
        found = [interval(Path(folder), seed, ACCURACY) for seed in range(runs)]
    inside = sum(low <= effect <= high for low, high, _claim in found)
    sure = stats.binomtest(inside, runs).proportion_ci(0.95)
    claims = sum(claim for *_ends, claim in found)
    print(f"### The simulated provider's effect of {effect:.2f} ({runs:,} analyses of the bundled sample)\n")
    print("| inside its 95% interval | exact interval of that share | better or worse |")
    print("| --- | --- | --- |")
    print(f"| {100 * inside / runs:.1f}% | {100 * sure.low:.1f} to {100 * sure.high:.1f}% | {100 * claims / runs:.1f}% |")
    return int(sure.high < 0.94 or sure.low > 0.96)


if __name__ == "__main__":
    sys.exit(main())
