"""The comparison: what a set is worth, processes that share it, the leaderboard."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from ddjax import evaluation, methods
from experiments import commands, records
from experiments.benchmarks import memory
from experiments.compare import common, tables
from experiments.compare.common import METHODS, SCALES, Task
from tests.experiments import in_process, made_up

NAME = "compare.grid"
ROOT = Path(commands.__file__).parents[1]


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "experiments.compare.grid", "--datasets=digits"]
    words += [
        "--ipc=1",
        "--seeds=0",
        "--eval=kernel_fully_connected",
        f"--sets={folder}/sets",
    ]
    return subprocess.Popen(
        [*words, f"--directory={folder}/records", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(there, process: subprocess.Popen[str]) -> None:
    while not there():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def _timeless(folder: Path) -> list[dict]:
    """Records without what depends on the process that made them."""
    found = []
    for record in records.read_records(folder / "records"):
        results = {
            key: value
            for key, value in record["results"].items()
            if not key.endswith(("seconds", "seconds_per_step", "memory_mib"))
        }
        found.append({**record, "results": results, "wall_seconds": 0})
        found[-1].pop("peak_memory_mib")
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_share_a_grid_and_one_is_killed(tmp_path):
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    rows = ("--methods=kip,random", "--steps=400")
    run = shared / "sets" / "compare_reduced" / "digits_ipc1_kip_seed0"
    first = _start(shared, *rows)
    # A checkpoint that is whole has its step for a name.
    saved = (run / "checkpoints").glob
    _wait_for(lambda: any(each.name.isdigit() for each in saved("*")), first)
    # In the middle of its run; what it holds it holds.
    first.send_signal(signal.SIGSTOP)
    second = _start(shared, *rows)
    _wait_for(lambda: any((shared / "records").rglob("*random*.json")), second)
    assert not any((shared / "records").rglob("*kip*.json"))
    first.kill()
    first.wait()
    out = second.communicate()[0]
    assert second.returncode == 0, out
    assert "going on from step" in out, out
    single = _start(alone, *rows)
    out = single.communicate()[0]
    assert single.returncode == 0, out
    assert len(_timeless(shared)) == 2 and _timeless(shared) == _timeless(alone)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
@pytest.mark.parametrize("row", METHODS)
def test_every_row_has_a_method_and_its_evaluations(row, dataset, scale):
    plan = METHODS[row](Task(dataset, 10, SCALES[scale]))
    settings = dict(plan.method)
    made = methods.make(settings.pop("name"), **settings)
    assert made.settings["per_class"] == 10 and row in tables.TITLES
    for kind in common.EVALUATIONS:
        judge = common.evaluation_of(
            row, plan, kind=kind, architecture="vgg11", scale=SCALES[scale]
        )
        assert isinstance(judge, evaluation.Evaluation)
        less = common.reduction(
            row, plan, kind=kind, scale=SCALES[scale], steps=plan.steps
        )
        assert (less is None) == (scale == "full")
    # Learned sets of the kernel line live in the whitened space of colour images.
    whitened = ["kip", "rfad", "frepo", *(["mtt", "datm"] if scale == "full" else [])]
    whitens = row in whitened and dataset == "cifar10"
    assert plan.preprocessing == ("zca" if whitens else "standardize")


def test_digits_are_not_flipped_and_other_images_are():
    scale = SCALES["full"]
    assert "flip" not in Task("mnist", 1, scale).wanted.dsa["strategy"]
    assert "flip" in Task("fashion_mnist", 1, scale).wanted.dsa["strategy"]
    with pytest.raises(ValueError, match="unknown evaluation 'knn'; known: network, k"):
        plan = METHODS["dm"](Task("mnist", 1, scale))
        common.evaluation_of("dm", plan, kind="knn", architecture="", scale=scale)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Arguments of a toy grid, whose records and sets are under `tmp_path`."""
    in_process.load(NAME)
    scale = SCALES["reduced"]._replace(
        limit=200,
        width_share=1 / 64,
        networks=1,
        epochs={"dc": 2, "dc_long": 2},
        full_data_epochs=1,
        kernel_width=4,
        kernel_networks=1,
        kernel_draws=1,
    )
    monkeypatch.setitem(SCALES, "reduced", scale)
    common.load.cache_clear()
    yield [
        *("--datasets=digits", "--seeds=0,1", "--ipc=1", "--steps=2"),
        *(f"--directory={tmp_path / 'records'}", f"--sets={tmp_path / 'sets'}"),
    ]
    common.load.cache_clear()


def check_leaderboard(tmp_path, capsys):
    """Has every line, and the pictures."""
    files = [f"--csv={tmp_path}/a/lines.csv", f"--html={tmp_path}/a/page.html"]
    where = [f"--directory={tmp_path / 'records'}", f"--sets={tmp_path / 'sets'}"]
    done = in_process.run("compare.leaderboard", *files, *where, capsys=capsys)
    assert done.status == 0, done.err
    rows = list(csv.DictReader((tmp_path / "a" / "lines.csv").open()))
    (line,) = (
        each for each in rows if (each["method"], each["learner"]) == ("kip", "convnet")
    )
    assert line["seeds"] == "2" and line["floats"] == "640"
    assert 0 <= float(line["accuracy"]) <= 1 and not line["published_percent"]
    page = (tmp_path / "a" / "page.html").read_text()
    assert page.count("data:image/png;base64") == 1 and "IPC 1" in page
    assert "http" not in page
    printed = in_process.run("compare.leaderboard", *where, capsys=capsys)
    assert "Table compare_network" in printed.out


def test_a_grid_makes_records_tables_and_the_leaderboard(toy, tmp_path, capsys):
    rows = "--methods=full_data,kip"
    networks = "--architectures=convnet"
    done = in_process.run(NAME, *toy, rows, networks, capsys=capsys)
    assert done.status == 0, done.err
    found = records.read_records(tmp_path / "records")
    assert len(found) == 2 * 2 * 2
    for each in found:
        assert set(each["results"]["scores"]) == {"validation", "test"}
        assert "20 000 training images" in each["reduced"]
    of_kip = [each for each in found if each["config"]["row"] == "kip"]
    assert len({each["results"]["digest"] for each in of_kip}) == 2
    assert {each["results"]["floats"] for each in of_kip} == {640}
    # The ceiling is one for all numbers of images a class.
    assert {each["config"]["per_class"] for each in found} == {None, 1}
    network = tables.TABLES["compare_network"](found)
    assert "digits, reduced scale: test accuracy, % | IPC 1 |" in network
    assert "all real images" in network and "| KIP |" in network and "±" in network
    assert "2 steps in place of 300" in network
    assert "compare" not in tables.TABLES["compare_kernel"](found)
    others = [
        {**each, "config": {**each["config"], "architecture": "vgg11"}}
        for each in found
        if each["config"]["architecture"]
    ]
    assert "vgg11" in tables.TABLES["compare_architectures"](found + others)
    none = tables.TABLES["compare_kernel_fully_connected"](found)
    assert none == "No records yet."
    assert "**digits, IPC 1, reduced scale**" in tables.TABLES["compare_cost"](found)
    # What is on record needs no data and no run.
    again = in_process.run(NAME, *toy, rows, networks, capsys=capsys)
    assert again.status == 0 and "8 of 8 records are there" in again.out
    # A set that is done is read, not made again.
    one = ("--methods=kip", "--seeds=0", "--eval=kernel_fully_connected")
    third = in_process.run(NAME, *toy, *one, capsys=capsys)
    assert third.status == 0 and "prepared and compiled" not in third.out
    check_leaderboard(tmp_path, capsys)


def test_a_leaderboard_without_records_is_one_line(tmp_path, capsys):
    ended = in_process.run(
        "compare.leaderboard", f"--directory={tmp_path}", capsys=capsys
    )
    assert ended.status == 2 and "no records of the comparison" in ended.err


def _record(row, count, seed, mean, **config):
    scores = {"test": {"mean": mean, "std": 0.0, "draws": 1}}
    place = {"dataset": "cifar10", "per_class": count, "row": row, "seed": seed}
    judge = {"architecture": "convnet", "evaluation": "network"}
    return made_up.record(
        f"compare/full/{row}_{count}_{seed}",
        {"scores": scores},
        config=place | judge | config,
        seed=seed,
    )


def test_published_figures_stand_beside_networks_only():
    of_kernels = {"architecture": None, "evaluation": "kernel"}
    found = [
        _record("dm", 1, 0, 0.25),
        _record("dm", 1, 1, 0.27),
        _record("dm", 10, 0, 0.48),
        _record("full_data", None, 0, 0.85),
        _record("kip", 1, 0, 0.5, **of_kernels),
    ]
    table = tables.TABLES["compare_network"](found)
    header, _, ceiling, of_dm = table.splitlines()[:4]
    assert "CIFAR-10, full scale" in header
    assert header.endswith("| IPC 1 | published | IPC 10 | published |")
    assert ceiling.count("85.00") == 2
    assert "26.00 ± 1.41 | 26.0 | 48.00 (one seed) | 48.9 |" in of_dm
    assert "KIP" not in table
    kernels = tables.TABLES["compare_kernel"](found)
    assert "KIP" in kernels and "published" not in kernels
    # Choosing on validation data leaves the tables as they are.
    chosen = _record("dm", 1, 2, 0.9)
    chosen["results"]["scores"] = {"validation": {"mean": 0.9}}
    assert tables.TABLES["compare_network"]([*found, chosen]) == table


def test_networks_that_judge_have_widths_and_columns():
    assert set(tables.NETWORKS) == set(common.WIDTHS)
    assert set(tables.COLUMNS) == {*tables.NETWORKS, *common.EVALUATIONS[1:]}


def test_published_figures_name_their_source():
    assert {row for row, _ in tables.PUBLISHED} == set(tables.SOURCES)
    for (row, _), figures in tables.PUBLISHED.items():
        assert row in tables.TITLES and sorted(figures) == list(figures)
    assert set(METHODS) <= set(tables.TITLES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kip", "dm"])
def test_costs_are_measured(name, monkeypatch):
    cost = in_process.load("compare.cost")
    monkeypatch.setattr(memory, "reset_peak_memory", lambda: True)
    problem = memory.random_problem(10, 3, 8)
    found = cost.measure(name, per_class=2, width=4, steps=1, problem=problem)
    assert found.pop("step_mib") >= 0
    assert set(found) == {"seconds_per_step", "preparation_seconds", "peak_mib"}
    assert all(value > 0 for value in found.values())


def test_every_method_has_costs():
    cost = in_process.load("compare.cost")
    for name in cost.METHODS:
        settings = cost.settings_of(name, per_class=2, width=4)
        made = methods.make(name, **settings)
        assert made.settings["per_class"] == 2 and name in tables.TITLES


def test_costs_have_as_many_images_as_a_set_starts_from():
    cost = in_process.load("compare.cost")
    # Images of IDM hold four each, more than the other methods are given.
    made = methods.make("idm", **cost.settings_of("idm", per_class=17, width=2))
    problem = cost.problem_of("idm", per_class=17)
    key = jax.random.key(0)
    made.init(key, problem, made.prepare(key, problem))


def test_the_table_of_growth_is_in_the_order_of_titles():
    each = {"seconds_per_step": 0.25, "step_mib": 12.4}
    rows = [{"method": name, "1": each, "10": each} for name in ("kip", "dd")]
    results = {"per_class": [1, 10], "rows": rows}
    found = made_up.record("compare/cost/width32", results)
    lines = tables.growth([found]).splitlines()
    assert lines[0].startswith("| method | ms a step, 1 a class | ms a step, 10 a")
    assert lines[2] == "| DD | 250 | 250 | 12 | 12 |"
    assert lines[3] == "| KIP | 250 | 250 | 12 | 12 |"
    assert tables.growth([]) == "No records yet."
