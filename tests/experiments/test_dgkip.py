"""The experiments on the duality gap, on two or three of the digits."""

import pytest

from ddjax import data
from ddjax.storage.cache import in_memory
from experiments.dgkip import tables
from tests.counting import counting
from tests.experiments import in_process, made_up

FEATURES = {
    "architecture": {"kind": "fully_connected", "depth": 1, "width": 64},
    "networks": 1,
}


@pytest.fixture(scope="module")
def two_digits():
    return data.load("digits", classes=(0, 1), validation=0.1, seed=0)


def record(name, rows):
    return made_up.record(name, {"rows": rows}, config={"dataset": "mnist"})


def test_transfer_fills_its_table(two_digits, monkeypatch):
    transfer, made, results = in_process.load("dgkip.transfer"), [], []

    def train(*arguments, **settings):
        results.append(trained(*arguments, **settings))
        return results[-1]

    trained = transfer.runtime.train
    monkeypatch.setattr(transfer.runtime, "train", train)
    monkeypatch.setattr(transfer, "in_memory", lambda: counting(in_memory(), made))
    rows = transfer.run_seed(
        two_digits,
        0,
        features=FEATURES,
        per_class=(1,),
        steps=(20,),
        learning_rates=(0.1,),
        duals="learned",
    )
    names = [(row["distilled_with"], row.get("per_class")) for row in rows]
    real = ("all real data", None)
    assert names == [real, ("lr", 1), real, ("svm", 1)]
    for row in rows:
        for worth in row["evaluated_with"].values():
            assert worth["validation"] > 0.8 and worth["test"] > 0.8
    for row, result in zip(rows[1::2], results, strict=True):
        assert set(row["evaluated_with"]) == set(transfer.LOSSES)
        loss = transfer.LOSSES[row["distilled_with"]]
        assert result.monitor == f"probe_{loss}/accuracy"
        # The step of the best validation accuracy among eleven; of equals the later.
        column = f"validation/{result.monitor}"
        looked_at = {r["step"]: r[column] for r in result.history if column in r}
        assert list(looked_at) == list(range(0, 21, 2))
        best = max(looked_at.values())
        assert row["step"] == max(k for k, v in looked_at.items() if v == best)
        assert row["evaluated_with"][row["distilled_with"]]["validation"] == best
        gaps = {r["step"]: r["gap"] for r in result.history if "gap" in r}
        assert row["gap"] == gaps[max(1, row["step"])]
    # Runs share what they can: features of each split, and a solution a loss.
    counts = {name: made.count(name) for name in made}
    assert counts == {"features": 2, "real_features": 1, "reference": 2, "decoder": 1}
    table = tables.transfer([record("dgkip/transfer/mnist_seed0", rows)])
    assert "MNIST, 1 image(s) a class" in table


def test_trajectory_stays_below_its_bound(two_digits, tmp_path):
    trajectory = in_process.load("dgkip.trajectory")
    points = trajectory.trajectory(
        two_digits,
        seed=0,
        features=FEATURES,
        per_class=1,
        steps=20,
        learning_rate=0.1,
        every=10,
        cache=in_memory(),
    )
    assert [point["step"] for point in points] == [0, 10, 20]
    for point in points:
        assert 0 < point["deviation"] <= point["bound"]
        assert point["test"] > 0.8
    assert points[-1]["bound"] < points[0]["bound"]
    trajectory.plot({"1": points}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_ten_classes_measures_sets():
    ten_classes = in_process.load("dgkip.ten_classes")
    problem = data.load("digits", classes=(0, 1, 2), validation=0.1, seed=0)

    def contenders(count):
        return ten_classes.contenders(
            per_class=count,
            steps=4,
            features=FEATURES,
            batch_size=32,
            real_ridge=1e-4,
            distilled_ridge=1e-5,
            duals="learned",
        )

    def make(count):
        found = contenders(count)
        return {name: found[name] for name in ("k-means", "DGKIP, one-vs-rest")}

    rows = ten_classes.run_seed(
        problem,
        seed=0,
        make=make,
        per_class=(1,),
        features=FEATURES,
        distilled_ridge=1e-5,
        split="test",
        measures=("probe", "one_vs_rest"),
    )
    assert len(contenders(1)) == 6
    assert [row["method"] for row in rows] == ["k-means", "DGKIP, one-vs-rest"]
    for row in rows:
        for column in ("probe_softmax", "probe_logistic"):
            assert row[f"{column}/accuracy"] > 0.5, row
    table = tables.ten_classes([record("dgkip/ten_classes/mnist_seed0", rows)])
    assert "MNIST, 1 a class: DGKIP, one-vs-rest" in table


def test_step_times_are_medians_of_runs_in_turns(two_digits, monkeypatch):
    step_time = in_process.load("dgkip.step_time")
    contenders = step_time.contenders(FEATURES["architecture"], 1, 32, 1)
    turns, seconds = [], iter((0.0, 1.0, 2.0, 3.0, 4.0, 5.0))
    done = []

    def train(method, problem, **settings):
        assert settings["steps"] == 7 and settings["chunk"] == 2
        turns.append(method)
        if not done:
            done.append(trained(method, problem, **settings))
            assert done[0].seconds_per_step > 0
        return done[0]._replace(seconds_per_step=next(seconds))

    trained = step_time.runtime.train
    monkeypatch.setattr(step_time.runtime, "train", train)
    chosen = dict(list(contenders.items())[:2])
    found = step_time.measure(
        chosen, two_digits, runs=3, chunks=3, steps=2, cache=in_memory()
    )
    assert turns == list(chosen.values()) * 3
    assert found == dict(zip(chosen, (2.0, 3.0), strict=True))
    rows = [{"per_class": 1, "seconds_per_step": found}]
    table = tables.step_time([record("dgkip/step_time/mnist", rows)])
    assert "dgkip, kernel form" in table
