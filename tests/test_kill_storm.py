"""The kill storm: its plan is even and follows from its seed, its strikes land where they were aimed, and it can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scripts.storm_plan import INSIDE, PHASES, Aim, Map, Strike, plan
from scripts.strikes import MOMENT

ROOT = Path(__file__).parents[1]
ANNOUNCED = [
    "start", "write",
    *(name for step in PHASES[1:] for name in (
        f"pre-{step}", "write",
        *(("remote", "submit:created") * 2 if step == "submit" else ("poll:fetch", "store") if step == "poll" else ()),
        f"post-{step}", "doit-db", "write",
    )),
]  # fmt: skip
DRIVER = """
import json, sys
from pathlib import Path
from pipeline.providers.simulated import SimulatedProvider
from scripts.inspect_run import result_files, the_run
from scripts import kill_storm
from scripts.storm_plan import Map, Strike
from scripts.strikes import make_project, run_child, warm_up
folder = Path(sys.argv[1])
words = ["--dry_run", "--limit_items", "3", "--parts_per_dataset", "2", "--quiet"]
warm_up()
whole = make_project(folder / "whole")
ended = run_child(whole, words)
found, reference = Map(ended.announced, ended.at), result_files(the_run(whole))
said = {"code": ended.code, "places": {phase: sorted(names) for phase, names in found.names.items()}}
def tell(name, *strikes):
    toll = kill_storm.strike_all(folder / name, words, reference, list(strikes))
    said[name] = {"phases": toll.phases, "places": toll.places, "runs": toll.runs, "problems": toll.problems}
moment = found.gaps["build"][0] / 2
tell("sound", Strike("open", "write", 2), Strike("build", "moment", 1, moment), Strike("submit", "remote", 2), Strike("poll", "store", 1),
     Strike("poll", "poll:publish", 1), Strike("report", "write", 3))
kill_storm.GIVE_UP = 1
tell("never", Strike("costs", "store", 1))
SimulatedProvider.find = lambda *_: None
tell("twice", Strike("submit", "submit:created", 1))
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What three small storms came to, in an interpreter of their own: they fork."""
    words = [sys.executable, "-c", DRIVER, str(tmp_path_factory.mktemp("storm"))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kills", [1, 11, 60, 200])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_plan_is_even_over_phases_and_has_all_places(kills: int, seed: int) -> None:
    """No phase and no place inside a write or a transaction is left out, however few kills are asked for."""
    strikes = [s for run in plan(Map(ANNOUNCED, [0.1 * n for n in range(len(ANNOUNCED))]), kills, seed) for s in run]
    phases, places = Counter(s.phase for s in strikes), Counter(s.name for s in strikes)
    assert len(strikes) == max(kills, len(PHASES))
    assert set(phases) == set(PHASES) and max(phases.values()) - min(phases.values()) <= 1
    assert min(places[name] for name in INSIDE) >= max(1, len(strikes) // 30)
    assert kills < 60 or places[MOMENT] >= kills // 5


def test_a_plan_follows_from_its_seed_and_strikes_in_the_order_of_phases() -> None:
    found = Map(ANNOUNCED, [0.1 * n for n in range(len(ANNOUNCED))])
    assert plan(found, 60, 1) == plan(found, 60, 1) != plan(found, 60, 2)
    assert all([s.order for s in run] == sorted(s.order for s in run) for run in plan(found, 60, 1))


@pytest.mark.parametrize(
    ("strike", "at"),
    [
        (Strike("open", MOMENT, 1), 0),
        (Strike("open", "write", 1), 1),
        (Strike("submit", "remote", 2), ANNOUNCED.index("pre-submit") + 4),
        (Strike("poll", MOMENT, 1), ANNOUNCED.index("pre-poll")),
        (Strike("report", "write", 2), ANNOUNCED.index("post-report") + 2),
        (Strike("costs", "store", 1), None),
    ],
)
def test_an_aim_is_true(strike: Strike, at: int | None) -> None:
    aim = Aim(strike)
    assert [n for n, name in enumerate(ANNOUNCED) if aim(name, 0)] == ([] if at is None else [at])


def test_a_run_announces_all_places(said: dict[str, Any]) -> None:
    assert said["code"] == 0
    assert all("write" in names for names in said["places"].values())
    assert "remote" in said["places"]["submit"] and "store" in said["places"]["poll"] and "doit-db" in said["places"]["archive"]


def test_kills_land_where_they_were_aimed_and_leave_a_sound_run(said: dict[str, Any]) -> None:
    assert said["sound"] == {
        "phases": {"open": 1, "build": 1, "submit": 1, "poll": 2, "report": 1},
        "places": {"write": 2, MOMENT: 1, "remote": 1, "store": 1, "poll:publish": 1},
        "runs": 1,
        "problems": [],
    }


def test_a_strike_that_never_comes_due_is_no_success(said: dict[str, Any]) -> None:
    assert said["never"]["runs"] == 1 and not said["never"]["phases"]
    assert [p for p in said["never"]["problems"] if "did not come due" in p]


def test_without_look_before_create_the_storm_sees_double_billing(said: dict[str, Any]) -> None:
    """The mutation: it must not pass for a sound run."""
    assert said["twice"]["phases"] == {"submit": 1}
    assert [p for p in said["twice"]["problems"] if "billed more than once" in p]
