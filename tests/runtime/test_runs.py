"""Runs from beginning to end, several seeds, and tables of what they found."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ddjax import runtime, synthetic
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation, Score
from ddjax.runtime import comparison
from ddjax.storage.cache import no_cache
from tests.runtime import fakes

SETTINGS = {"steps": 4, "evaluate_every": 2, "verbose": False}


def _problem() -> Problem:
    """The toy with a preprocessing that can be exported."""
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    return fakes.problem()._replace(preprocessing=Preprocessing("none", zero, one))


def _judge(splits: list[str]) -> Evaluation:
    """An accuracy that tells sets apart, and notes which splits were read."""

    def evaluate(key, distilled, problem, split, cache=no_cache):
        splits.append(split)
        size = float(np.mean(np.square(fakes.inputs(distilled))))
        return {
            "judge/accuracy": Score(1.0 / (1.0 + size), 0.01, 3),
            "random_real_judge/accuracy": Score(0.5, 0.0, 1),
            "judge/converged": Score(1.0, 0.0, 1),
        }

    return Evaluation("judge", {}, evaluate)


def _done(do, folder, splits, method=fakes.QUADRATIC, **settings):
    """What one of the functions that make runs does with the toy and the judge."""
    judges = [_judge(splits)]
    settings = {**SETTINGS, **settings, "evaluations": judges}
    return do(method, _problem(), workdir=folder, **settings)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of two seeds, what came of them, and the splits that were read."""
    folder, splits = tmp_path_factory.mktemp("sweep") / "sweep", []
    # What the loop alone has done is not done again.
    _done(runtime.train, folder / "seed_1", splits, seed=1)
    outcomes = _done(runtime.sweep, folder, splits, seeds=np.array([1, 0]))
    return folder, outcomes, splits


def test_every_seed_is_a_run_of_its_own(swept):
    folder, outcomes, splits = swept
    assert [each.workdir.name for each in outcomes] == ["seed_1", "seed_0"]
    assert splits.count("test") == 2 and splits.count("validation") == 6
    for outcome in outcomes:
        assert (outcome.workdir / "report.html").is_file()
        assert outcome.distilled.provenance["config"]["train"]["steps"] == 4
    first, second = (fakes.inputs(each.distilled) for each in outcomes)
    assert not np.array_equal(first, second)
    # What the loop alone makes of the seed.
    alone = _done(runtime.train, None, [], seed=1)
    np.testing.assert_array_equal(fakes.inputs(alone.distilled), first)


def test_a_finished_sweep_is_read_back(swept):
    folder, outcomes, _ = swept
    calls, splits = {}, []
    method = fakes.quadratic(calls=calls)
    again = _done(runtime.sweep, folder, splits, method, seeds=range(2))
    assert not calls and not splits
    assert [each.test for each in again] == [each.test for each in outcomes[::-1]]
    text = runtime.report(folder / "seed_1")
    assert "accuracy of judge" in text and "step 4 of 4" in text


def test_another_run_is_refused_and_another_choice_is_made(swept, tmp_path):
    folder = shutil.copytree(swept[0] / "seed_0", tmp_path / "run")
    with pytest.raises(ValueError, match="is of another run: .*learning_rate"):
        _done(runtime.train_and_report, folder, [], fakes.quadratic(learning_rate=0.5))
    last = _done(runtime.train_and_report, folder, [], choose="last")
    assert swept[1][1].results["chosen_by"].startswith("the best by validation judge")
    assert last.results["chosen_by"] == "the last one"


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "there are no seeds"),
        ([0, 0], r"different whole numbers in .*got \[0, 0\]"),
        ([2**32], "different whole numbers"),
        ([-1], "seed must be at least 0, got -1"),
    ],
)
def test_seeds_are_checked_before_any_work(tmp_path, seeds, message):
    calls = {}
    with pytest.raises(ValueError, match=message):
        _done(runtime.sweep, tmp_path, [], fakes.quadratic(calls=calls), seeds=seeds)
    assert not calls and not any(tmp_path.iterdir())


def test_mistakes_are_told(swept, tmp_path):
    method, problem = fakes.QUADRATIC, _problem()
    with pytest.raises(ValueError, match="judge, judge have one name"):
        judges = [_judge([]), _judge([])]
        runtime.train_and_report(
            method, problem, workdir=tmp_path, steps=1, evaluations=judges
        )
    with pytest.raises(TypeError, match="stps"):
        runtime.train_and_report(method, problem, workdir=tmp_path, steps=1, stps=2)
    with pytest.raises(ValueError, match="the folder of one run"):
        folder = swept[0] / "seed_0"
        runtime.sweep(method, problem, seeds=[0], workdir=folder, steps=1)
    with pytest.raises(ValueError, match="holds no finished run"):
        runtime.report(tmp_path)


def test_a_table_of_seeds_is_one_line_with_mean_and_spread(swept):
    folder, outcomes, _ = swept
    text = runtime.table_of_runs(folder)
    header, _, row, _, note = text.split("\n")
    means = [100 * each.test["judge/accuracy"].mean for each in outcomes]
    assert f"{np.mean(means):.2f} ± {np.std(means, ddof=1):.2f} %" in row
    assert "judge, accuracy" in row and f"{folder}/..." in row
    assert "over seeds" in note and "converged" not in text
    assert header.split()[:3] == ["run", "method", "data"]
    # One run has no spread over seeds, whatever its evaluation drew.
    alone = runtime.table_of_runs(folder / "seed_0")
    assert "±" not in alone and str(folder / "seed_0") in alone


def _otherwise(run: Path, folder: Path, judge: dict | None = None, **provenance):
    """A copy of a run that says something else of where it comes from."""
    shutil.copytree(run, folder)
    results = json.loads((folder / "results.json").read_text())
    results["evaluations"]["judge"] = judge or {}
    (folder / "results.json").write_text(json.dumps(results))
    distilled = synthetic.load(folder / "distilled")
    known = {**distilled.provenance, **provenance}
    synthetic.save(folder / "distilled", distilled._replace(provenance=known))


@pytest.fixture(scope="module")
def several(swept, tmp_path_factory):
    """Beside the sweep: another rate, other data, a set, and a run that goes on."""
    folder = tmp_path_factory.mktemp("several")
    first, known = swept[0] / "seed_0", swept[1][1].distilled.provenance
    rate = {**known["settings"], "learning_rate": 0.5}
    _otherwise(first, folder / "other_rate", settings=rate)
    other = {**known["data"], "fingerprint": "1" * 64, "identity": "1" * 64}
    _otherwise(first, folder / "other_data", data=other, judge={"strict": True})
    (folder / "unfinished").mkdir()
    shutil.copy(first / "run.json", folder / "unfinished")
    distilled = swept[1][0].distilled
    certificate = {
        "error_lower": 0.1,
        "error_upper": 0.4,
        "midpoint_error_lower": 0.2,
        "midpoint_error_upper": 0.5,
    }
    alone = distilled._replace(provenance={}, certificate=certificate)
    synthetic.save(folder / "set.safetensors", alone)
    return folder


def test_what_differs_is_marked(swept, several):
    folder = swept[0]
    one = runtime.table_of_runs(folder, several / "other_rate")
    assert "quadratic, learning_rate=0.05" in one
    assert "quadratic, learning_rate=0.5" in one and "fingerprint" not in one
    found = comparison.compare_runs(folder, several, several / "set.safetensors")
    text = comparison.to_text(found)
    assert len(found.lines) == 4
    for said in (
        "unfinished has not finished and is left out.",
        "toy [1] has the fingerprint 00000000",
        "toy [2] has the fingerprint 11111111",
        "of not known [3] the data are not known",
        "Scores of one do not compare with those of another.",
        "test error, certified",
        "20 % to 40 %",
        "judge (strict=true), accuracy",
    ):
        assert said in text


def test_other_programs_read_the_table(swept, several):
    found = comparison.compare_runs(swept[0], several / "other_data")
    rows = list(csv.DictReader(io.StringIO(comparison.to_csv(found))))
    assert [row["scalar"] for row in rows] == 2 * [
        "judge/accuracy",
        "random_real_judge/accuracy",
    ]
    plain = json.loads(json.dumps(comparison.to_plain(found)))
    line, other = plain["lines"]
    assert line["seeds"] == [0, 1] and other["seeds"] == [0]
    assert line["samples"] == 2 and line["floats"] == 18
    assert line["floats_with_targets"] == 22 and line["steps"] == 4
    means = [each.test["judge/accuracy"].mean for each in swept[1]]
    score = line["scores"]["test"]["judge/accuracy"]
    assert score["mean"] == pytest.approx(np.mean(means))
    assert float(rows[0]["test"]) == pytest.approx(score["mean"])
    assert float(rows[0]["test_std"]) == pytest.approx(score["std"])
    assert rows[2]["test_std"] == ""
    page = comparison.to_page(found)
    assert page.count("data:image/png;base64,") == 2 and "toy [2]" in page


def test_there_has_to_be_something(several, tmp_path):
    for place, message in (
        (tmp_path, "holds neither a run nor a distilled set"),
        (tmp_path / "none", "there is no such file or folder"),
        (several / "unfinished", "no run in .* has finished"),
    ):
        with pytest.raises(ValueError, match=message):
            runtime.table_of_runs(place)
