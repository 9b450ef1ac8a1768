"""Reports, figures and progress: what a reader sees."""

import re

import numpy as np
import pytest

from ddjax.evaluation.base import Score
from ddjax.evaluation.wording import number
from ddjax.runtime import figures, render
from ddjax.runtime.devices import (
    commit,
    hardware,
    peak_memory_mib,
    reset_peak_memory,
    versions,
)
from ddjax.runtime.figures import columns_png, curves_png
from ddjax.runtime.loop import _monitored
from ddjax.runtime.progress import Progress, duration, table
from ddjax.runtime.run_report import write_report
from ddjax.runtime.scores import HEADER, Measured, headline, not_converged, score_rows
from ddjax.synthetic import fonts, natural_inputs, natural_regression_targets
from tests.runtime import fakes
from tests.synthetic.problems import changed, distilled_set, table_set

# How the scalars of a regression run come back: in alphabetical order of evaluations.
REGRESSION = {
    "full_data_squared/mse": Score(0.25, 0.0, 1),
    "full_data_squared/r2": Score(0.99, 0.0, 1),
    "full_data_squared/rmse": Score(598_123.4, 0.0, 1),
    "full_data_squared/converged": Score(1.0, 0.0, 1),
    "random_real_regression/r2": Score(0.2704, 0.19, 5),
    "random_real_regression/rmse": Score(1_234_567.8, 12_345.6, 5),
    "regression/r2": Score(0.75, 0.0, 1),
    "regression/rmse": Score(612_000.0, 0.0, 1),
}
PROBE = {
    "certificate/radius": Score(3.0, 0.0, 1),
    "full_data_hinge/accuracy": Score(1.0, 0.0, 1),
    "full_data_softmax/accuracy": Score(0.98, 0.0, 1),
    "probe_hinge/accuracy": Score(0.8, 0.0, 1),
    "probe_softmax/accuracy": Score(0.95, 0.0, 1),
    "probe_softmax/solver_gap": Score(1e-7, 0.0, 1),
    "random_real_probe_softmax/accuracy": Score(0.55, 0.04, 5),
}


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine without fonts of its own."""
    monkeypatch.setattr(fonts, "_installed", tuple)
    fonts._font_with_all.cache_clear()
    yield
    fonts._font_with_all.cache_clear()


def test_report_escapes_and_says_everything(tmp_path):
    distilled = changed(distilled_set(), certificate={"relative_radius": 0.25})
    test = {"x/loss": Score(0.25, 0.01, 3), "x/accuracy": Score(0.5, 0.02, 3)}
    start = changed(distilled, inputs=0.5 * distilled.stored["inputs"])
    write_report(tmp_path, fakes.report(distilled, test=test, start=start))
    page = (tmp_path / "report.html").read_text()
    text = (tmp_path / "report.md").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "<title>toy &lt;on&gt; toys</title>" in page
    assert "50.00 ± 2.00 %" in page and "50.00 ± 2.00 %" in text
    assert "0.250 ± 0.010" in text and "1 min 15 s" in text
    assert "| processor | x&#124;secret |" in text
    proven = "distance of the two models, proven at most"
    assert f"| {proven} | 0.25 times the norm of the real data's model |" in text
    # The start beside the distilled images, and the curves.
    assert page.count("data:image/png;base64,") == 3
    assert "The start, before the first step" in page
    for link in re.findall(r"\]\((.+?)\)", text):
        assert (tmp_path / link).exists()
    folder = tmp_path / "figures"
    assert (folder / "start.png").read_bytes() != (folder / "samples.png").read_bytes()


def test_where_nothing_has_changed_there_is_no_start(tmp_path):
    write_report(tmp_path, fakes.report(distilled_set(), metrics=[]))
    assert not (tmp_path / "figures" / "start.png").exists()
    assert "no step improved on it" in (tmp_path / "report.md").read_text()


def test_report_without_pictures(tmp_path):
    flat = distilled_set(shape=(9,), certificate=None)
    write_report(tmp_path, fakes.report(flat, metrics=[{"step": 0}]))
    assert "<img" not in (tmp_path / "report.html").read_text()
    assert "Certificate" not in (tmp_path / "report.md").read_text()


def _measured(distilled, scores, **others) -> Measured:
    own = {k: v for k, v in scores.items() if k.startswith(("regression", "probe"))}
    return Measured(distilled, 38_837, own, scores, **others)


def test_the_sets_own_score_is_the_headline():
    # The full data's stood there: the first one in alphabetical order.
    for monitor in ("regression/r2", None):
        cards = headline(_measured(table_set(), REGRESSION, monitor=monitor))
        what = "test R² of ridge regression trained on"
        assert cards == [
            ("0.75", f"{what} 5 distilled rows"),
            ("0.27 ± 0.19", f"{what} 5 random real rows (5 draws)"),
            ("0.99", f"{what} all 38,837 real rows"),
        ]


def test_the_headline_is_of_one_learner():
    measured = _measured(distilled_set(), PROBE, monitor="probe_softmax/accuracy")
    what = "test accuracy of logistic regression (softmax) trained on"
    assert headline(measured) == [
        ("95.00 %", f"{what} 6 distilled images"),
        ("55.00 ± 4.00 %", f"{what} 6 random real images (5 draws)"),
        ("98.00 %", f"{what} all 38,837 real images"),
    ]
    other = dict.fromkeys(PROBE, "mnist")
    rows = score_rows(measured._replace(other_data=other))
    assert ("  all real images of mnist", "-", "98.00 %") in rows
    assert headline(measured._replace(test={})) == []


def test_the_table_says_what_a_number_is_of():
    distilled = table_set()
    columns = distilled.columns._replace(units={"price": "dollars"})
    measured = _measured(distilled._replace(columns=columns), REGRESSION)
    assert len(HEADER) == 3
    assert score_rows(measured) == [
        ("R² of ridge regression", "", ""),
        ("  5 distilled rows", "0.75", "0.75"),
        ("  5 random real rows (5 draws)", "-", "0.27 ± 0.19"),
        ("  all 38,837 real rows", "-", "0.99"),
        # The errors in the target's units, no squared one in standardised units.
        ("root mean squared error of ridge regression (price, dollars)", "", ""),
        ("  5 distilled rows", "612,000", "612,000"),
        ("  5 random real rows (5 draws)", "-", "1,234,568 ± 12,346"),
        ("  all 38,837 real rows", "-", "598,123"),
    ]
    assert score_rows(_measured(distilled, {})) == []
    assert not_converged(measured) == []
    rough = {**REGRESSION, "full_data_squared/converged": Score(0.0, 0.0, 1)}
    (sentence,) = not_converged(_measured(distilled, rough))
    assert "all 38,837 real rows did not converge" in sentence


@pytest.mark.parametrize(
    "value,text",
    [
        (598_123.4, "598,123"),
        (1294, "1294"),
        (-24.754, "-24.75"),
        (0.00012344, "0.0001234"),
        (0.0, "0"),
        (3.2e-7, "3.2e-07"),
        (999.97, "1000"),
        (9999.7, "10,000"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_as_a_person_writes_them(value, text):
    assert number(value) == text


NAMES = ("$a_{$", "50% of <b>_x_|", "house 猫 \U0001f600")


def test_any_name_of_a_column_is_drawn_and_told(tmp_path, no_fonts):
    distilled = table_set()
    columns = distilled.columns._replace(inputs=NAMES, targets=("$^$",), units={})
    distilled = distilled._replace(columns=columns)
    with pytest.warns(UserWarning, match="no installed font can draw 'house 猫"):
        write_report(tmp_path, fakes.report(distilled))
    page = (tmp_path / "report.html").read_text()
    assert '<th class="n">$a_{$</th>' in page and "50% of &lt;b&gt;_x_|" in page
    assert "column 3 is house 猫" in page
    text = (tmp_path / "report.md").read_text()
    assert "| &#36;a_{&#36; | 50% of &lt;b>_x_&#124; | house 猫" in text


def test_a_certificate_is_a_sentence_and_a_few_rows(tmp_path):
    numbers = {f"number_{i}": 0.5 for i in range(30)}
    numbers |= {"relative_deviation": 0.125, "relative_radius": 0.25, "radius": 3.0}
    says = {"says": "the certificate proves nothing about the test error"}
    distilled = distilled_set(certificate={**says, **numbers})
    write_report(tmp_path, fakes.report(distilled, metrics=[]))
    text = (tmp_path / "report.md").read_text()
    assert "The certificate proves nothing about the test error." in text
    assert "number_3" not in text and "| radius |" not in text
    assert "measured | 0.125 times the norm of the real data's model |" in text


@pytest.mark.parametrize("named", [True, False])
def test_the_report_of_a_table_shows_its_rows_in_natural_units(tmp_path, named):
    many = np.tile(np.arange(5), 5)
    distilled = table_set()
    distilled = distilled._replace(
        stored={name: array[many] for name, array in distilled.stored.items()},
        columns=distilled.columns if named else None,
    )
    scores = {"regression/r2": Score(0.75, 0.0, 1)}
    start = changed(distilled, inputs=distilled.stored["inputs"] + np.float32(1))
    write_report(tmp_path, fakes.report(distilled, test=scores, start=start))
    text = (tmp_path / "report.md").read_text()
    names = "rooms | area | age | price" if named else "x0 | x1 | x2 | y0"
    assert f"| {names} |" in text and "The first 20 of 25 rows" in text
    row = [*natural_inputs(distilled)[0], *natural_regression_targets(distilled)[0]]
    assert "| " + " | ".join(number(float(value)) for value in row) + " |" in text
    assert "**0.75** test R² of ridge regression trained on 25 distilled rows" in text
    assert (tmp_path / "figures" / "columns.png").exists()
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
    monkeypatch.setattr(figures, "_png", lambda figure: drawn.append(figure) or b"")
    columns_png(wide)
    widest = np.sort(np.argsort(-inputs.std(axis=0))[:12])
    (figure,) = drawn
    assert [axis.get_xlabel() for axis in figure.axes] == [f"x{i}" for i in widest]


def test_curves_say_which_split_they_are_of():
    rows = [
        {"step": i, "loss": 10.0 ** (-2 * i), "accuracy": 0.1 * i}
        | {"deviation_bound": 3.0 - i, "constant": 1.0, "gap": None}
        | {"validation/probe_hinge/accuracy": 0.5 * i, "validation/$a_{$/r2": 0.1 * i}
        | {"validation/probe_hinge/accuracy/std": 0.1}
        for i in range(2)
    ]
    panels = figures._panels(rows, distilled_set())
    assert [panel.title for panel in panels] == [
        "loss on the training data",
        "accuracy on the training data (%)",
        "bound on the distance to the real data's model,\n"
        "in norms of that model (training data)",
        "accuracy on the validation split (%)",
        "R² on the validation split",
    ]
    assert [line.name for line in panels[3].lines] == ["distilled set: SVM (hinge)"]
    assert panels[1].lines[0].values == [0.0, 10.0]
    assert curves_png(rows, distilled_set()).startswith(b"\x89PNG")
    assert curves_png([{"step": 1, "loss": 1.0}], distilled_set()) is None


def test_a_page_can_be_read_on_a_phone():
    rows = [("a group", "", ""), ("x" * 99, "1", "2")]
    page = render.to_html("t", [render.Table(("a", "b", "c"), rows)])
    assert '<meta name="viewport" content="width=device-width' in page
    assert '<div class="scroll"><table' in page
    assert '<th colspan="3">a group</th>' in page
    assert "anywhere" not in re.findall(r"\.(?:cards|numbers).*?}", page, re.S)


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
    progress = Progress(steps=100)
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
    progress = Progress(steps=2)
    progress.update(1, 0.5, 2.0)
    progress.say("a line")
    progress.update(2, 0.5, 2.0)
    progress.close()
    assert capsys.readouterr().out == (
        "\r\x1b[2K[######......] step 1/2  loss 0.5\r\x1b[2Ka line\n"
        "\r\x1b[2K[############] step 2/2  loss 0.5  0.5 steps/s  0.0 s left\n"
    )


def test_silent_progress(capsys):
    progress = Progress(steps=2, enabled=False)
    progress.update(2, 0.5, 2.0)
    progress.say("a line")
    progress.close()
    assert capsys.readouterr().out == ""


def test_devices():
    machine = hardware()
    assert machine["cores"] >= 1 and machine["devices"]
    assert versions()["jax"] and peak_memory_mib() > 10
    large = np.ones(2**25)
    held = peak_memory_mib()
    del large
    # Where the system can, what was freed before counts no more.
    assert not reset_peak_memory() or peak_memory_mib() < held - 128
    found, modified = commit("ddjax")
    assert found is None or (len(found) == 40 and modified in (True, False))


def test_the_step_is_chosen_by_the_sets_own_score():
    # In alphabetical order the full data's, the same at every step, comes first.
    assert _monitored(None, REGRESSION) == "regression/r2"
    assert _monitored(None, PROBE) == "probe_hinge/accuracy"
    assert _monitored("full_data_hinge/accuracy", PROBE) == "full_data_hinge/accuracy"
