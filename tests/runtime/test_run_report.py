"""Reports, figures and progress: what a reader sees."""

import re

import numpy as np
import pytest

from ddjax.evaluation.base import Score
from ddjax.runtime import figures, render
from ddjax.runtime.devices import commit, hardware, peak_memory_mib, versions
from ddjax.runtime.figures import columns_png, curves_png
from ddjax.runtime.progress import Progress, duration, table
from ddjax.runtime.run_report import Report, score_rows, write_report
from ddjax.synthetic import natural_inputs, natural_regression_targets
from tests.runtime import fakes
from tests.synthetic.problems import table_set


def _report(**changes) -> Report:
    method, problem = fakes.quadratic(), fakes.problem()
    keys = fakes.jax.random.key(0)
    data = {"rows": problem.train}
    state = method.init(keys, problem, data)
    distilled = method.distilled(keys, state, problem, data)
    fields = dict(
        title="toy <on> toys",
        distilled=distilled._replace(certificate={"radius": 0.25}),
        step=3,
        steps=4,
        chosen_by="the last one",
        validation={"x/loss": Score(0.5, 0.0, 1)},
        test={"x/loss": Score(0.25, 0.01, 3), "x/accuracy": Score(0.5, 0.02, 3)},
        seconds=75.0,
        preparation_seconds=1.0,
        real_samples=24,
        config={"a|b": "<script>"},
        metrics=[{"step": i, "loss": 2.0 - i, "seconds": 0.1} for i in range(2)],
        run={"data": "a|b"},
        command="python -m x",
    )
    return Report(**(fields | changes))


def test_report_escapes_and_says_everything(tmp_path):
    write_report(tmp_path, _report())
    page = (tmp_path / "report.html").read_text()
    text = (tmp_path / "report.md").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "<title>toy &lt;on&gt; toys</title>" in page
    assert "50.00 ± 2.00 %" in page and "50.00 ± 2.00 %" in text
    assert "0.25 ± 0.01" in text and "1 min 15 s" in text
    assert "| data | a&#124;b |" in text
    assert "| radius | 0.25 |" in text
    assert page.count("data:image/png;base64,") == 2
    for link in re.findall(r"\]\((.+?)\)", text):
        assert (tmp_path / link).exists()


def test_report_without_pictures(tmp_path):
    report = _report(metrics=[{"step": 0}])
    stored = report.distilled.stored
    stored = {**stored, "inputs": stored["inputs"].reshape(2, 9)}
    flat = report.distilled._replace(stored=stored, certificate=None)
    write_report(tmp_path, report._replace(distilled=flat))
    assert "<img" not in (tmp_path / "report.html").read_text()
    assert "Certificate" not in (tmp_path / "report.md").read_text()


def test_qualities_come_first():
    rows = score_rows({"b": Score(1.0, 0.0, 1)}, {"a/accuracy": Score(1.0, 0.0, 1)})
    assert rows == [("a/accuracy", "-", "100.00 %"), ("b", "1", "-")]
    rows = score_rows({"a/mae": Score(1.0, 0.0, 1), "a/r2": Score(0.5, 0.1, 3)}, {})
    assert rows == [("a/r2", "0.5 ± 0.1", "-"), ("a/mae", "1", "-")]


@pytest.mark.parametrize("named", [True, False])
def test_the_report_of_a_table_shows_its_rows_in_natural_units(tmp_path, named):
    many = np.tile(np.arange(5), 5)
    distilled = table_set()
    distilled = distilled._replace(
        stored={name: array[many] for name, array in distilled.stored.items()},
        columns=distilled.columns if named else None,
    )
    scores = {"regression/r2": Score(0.75, 0.0, 1)}
    write_report(tmp_path, _report(distilled=distilled, test=scores))
    text = (tmp_path / "report.md").read_text()
    names = "rooms | area | age | price" if named else "x0 | x1 | x2 | y0"
    assert f"| {names} |" in text and "The first 20 of 25 samples" in text
    row = [*natural_inputs(distilled)[0], *natural_regression_targets(distilled)[0]]
    assert "| " + " | ".join(f"{value:.4g}" for value in row) + " |" in text
    assert "**0.75** test regression/r2" in text
    assert (tmp_path / "figures" / "columns.png").read_bytes() == columns_png(distilled)
    assert not (tmp_path / "figures" / "samples.png").exists()


def test_of_many_columns_those_are_drawn_that_spread_most(monkeypatch):
    distilled = table_set()
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(5, 30)).astype(np.float32) * (1 + np.arange(30))
    mean, std = np.zeros(30), np.ones(30)
    wide = distilled._replace(
        stored={**distilled.stored, "inputs": inputs.astype(np.float32)},
        preprocessing=distilled.preprocessing._replace(mean=mean, std=std),
        columns=None,
    )
    drawn = []
    monkeypatch.setattr(
        figures,
        "_column_names",
        lambda _, column: (drawn.append(int(column)) or "x", "y"),
    )
    assert columns_png(wide).startswith(b"\x89PNG")
    spread = inputs.std(axis=0)
    assert drawn == sorted(np.argsort(-spread)[:12].tolist())


def test_curves():
    rows = [
        {"step": i, "loss": 10.0 ** (-i), "constant": 1.0, "gap": None, "flag": i}
        | {f"validation/{k}/accuracy": i / 4 for k in "ab"}
        | {"validation/a/accuracy/std": 0.1}
        for i in range(4)
    ]
    assert curves_png(rows).startswith(b"\x89PNG")
    assert curves_png([{"step": 1, "seconds": 0.0, "loss": 1.0}]) is None
    quality = [{"step": i, "validation/x/r2": 0.1 * i} for i in range(3)]
    assert curves_png(quality).startswith(b"\x89PNG")


def test_code_may_be_folded():
    block = render.Code("x < y", "python", "Look")
    assert "<details><summary>Look</summary>" in render.to_html("t", [block])
    assert "x &lt; y" in render.to_html("t", [block])


@pytest.mark.parametrize(
    "seconds,text",
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (65.2, "1 min 05 s"), (7980.0, "2 h 13 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_table():
    shown = table(("name", "n"), [("a", "1"), ("long name", "100")])
    assert shown.splitlines() == [
        "name         n",
        "---------  ---",
        "a            1",
        "long name  100",
    ]


def test_progress_in_a_pipe(capsys):
    progress = Progress(steps=100, start=0)
    progress.update(1, 0.5, 2.0)
    for step in (20, 40, 60):
        progress.update(step, 0.25, 0.01)
    progress.say("step 60: evaluated")
    progress.update(100, 0.125, 0.0001)
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 1/100  loss 0.5"
    assert lines[1] == "step 60: evaluated"
    assert re.fullmatch(
        r"step 100/100  loss 0.125  10,000 steps/s  0.0 s left", lines[2]
    )
    assert len(lines) == 3


def test_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    progress = Progress(steps=2, start=0)
    progress.update(1, 0.5, 2.0)
    progress.say("a line")
    progress.update(2, 0.5, 2.0)
    progress.close()
    assert capsys.readouterr().out == (
        "\r\x1b[2K[######......] step 1/2  loss 0.5\r\x1b[2Ka line\n"
        "\r\x1b[2K[############] step 2/2  loss 0.5  0.5 steps/s  0.0 s left\n"
    )


def test_silent_progress(capsys):
    progress = Progress(steps=2, start=0, enabled=False)
    progress.update(2, 0.5, 2.0)
    progress.say("a line")
    progress.close()
    assert capsys.readouterr().out == ""


def test_devices():
    machine = hardware()
    assert machine["cores"] >= 1 and machine["devices"]
    assert versions()["jax"] and peak_memory_mib() > 10
    found, modified = commit("ddjax")
    assert found is None or (len(found) == 40 and modified in (True, False))
