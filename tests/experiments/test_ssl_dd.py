"""Configurations and the table of self-supervised distillation, at a toy's size."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image
from sklearn import manifold

from configs.ssl_dd import cifar100, folder
from ddjax import synthetic
from ddjax.runtime.outcome import summary
from ddjax.synthetic import budget
from experiments import launch
from experiments.ssl_dd.common import LEARNED, SCALES, settings_of, weight_decay
from experiments.ssl_dd.tables import TABLES
from tests.experiments import in_process, made_up
from tests.methods.encoders import small

NAME = "ssl_dd.table"
figures = in_process.load("ssl_dd.figures")


def test_a_folder_of_unlabelled_images_and_a_teacher(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(24):
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    config = folder.get_config("runlocal")
    config.data.directory = str(tmp_path / "images")
    config.data.image_size = 16
    monkeypatch.setattr("ddjax.methods.teacher.as_encoder", lambda setting: small())
    monkeypatch.setattr(
        "ddjax.methods.representation_regression.as_encoder", lambda setting: small()
    )
    config.method.teacher_size = 8
    config.method.representations_directory = None
    outcome = launch.train_and_evaluate(config, tmp_path / "run")
    assert "Nothing was trained on the set" in summary(outcome)
    report = (tmp_path / "run" / "report.md").read_text()
    assert "followed by views of them (rotation)" in report
    assert "Nothing was trained on the set" in report and "| validation |" not in report
    found = synthetic.load(tmp_path / "run" / "distilled")
    assert found.targets_kind == "representation"
    assert budget.floats(found, targets=True) <= 8 * 16 * 16 * 3
    assert (tmp_path / "run" / "figures" / "samples.png").exists()
    assert list((tmp_path / "run" / "exports").glob("*.safetensors"))
    assert "report.html" in {each.name for each in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize("arg", [None, "plain,budget=25", "teacher=network_file"])
def test_configurations_name_what_methods_take(arg):
    config = cifar100.get_config(arg).to_dict()
    method = config["method"]
    assert method["name"] == ("krr_st" if arg and "plain" in arg else "ssl_dd")
    assert method["pool"]["settings"]["widths"] == (128, 256, 512)
    assert set(config["evaluate"]) == {"pretraining"}


@pytest.mark.parametrize("row", sorted(LEARNED))
def test_rows_of_the_ladder_differ_in_what_they_say(row):
    settings = settings_of(row, budget=100, scale=SCALES["full"])
    own = {key: settings[key] for key in LEARNED[row]}
    assert own == LEARNED[row]
    if row != "krr_st":
        assert settings["image_bases"] == settings["target_bases"] == 200


def test_larger_images_have_the_settings_of_tinyimagenet():
    given = {"budget": 200, "scale": SCALES["full"], "source": "tfds:tiny_imagenet"}
    settings = settings_of("boosted", **given)
    assert (settings["image_bases"], settings["target_bases"]) == (400, 400)
    assert (settings["downscale"], settings["hidden"]) == (4, 16)
    assert settings["pool"]["settings"]["widths"] == (128, 256, 512, 512)
    # Rows that are about the width of the networks keep theirs.
    assert settings_of("network_2", **given)["hidden"] == 2
    assert "hidden" not in settings_of("parameterization", **given)
    found = [
        weight_decay(source, budget)
        for source in ("cifar100", "tfds:tiny_imagenet")
        for budget in (100, 1000)
    ]
    assert found == [1e-3, 1e-4, 5e-3, 5e-3]


def test_budgets_without_bases_are_refused():
    with pytest.raises(ValueError, match="budget of 70 images; known: 25, 50, 100"):
        settings_of("boosted", budget=70, scale=SCALES["reduced"])


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """The table on digits, with a teacher that costs nothing."""
    module = in_process.load(NAME)
    common = module.common
    scale = SCALES["reduced"]._replace(
        limit=200,
        widths=(4,),
        students=2,
        student_steps=2,
        bases=((100, 8, 6),),
        steps=2,
        batch_size=20,
        pretraining_steps=2,
        real_steps=2,
        probe_limit=50,
        probes=("closed_form",),
    )
    monkeypatch.setitem(SCALES, "reduced", scale)
    teacher = {"teacher": small(), "teacher_size": 8}
    monkeypatch.setattr(common, "teacher_of", lambda name: teacher)
    monkeypatch.setattr(common, "data_dir", lambda: str(tmp_path))
    common.load.cache_clear()
    yield [
        *("--source=digits", "--targets=digits", f"--directory={tmp_path / 'records'}"),
        *("--seeds=0", f"--sets={tmp_path / 'sets'}"),
    ]
    common.load.cache_clear()


def test_the_table_of_teachers():
    assert TABLES["ssl_dd_teacher"]([]) == "No records yet."
    config = {"dataset": "digits", "width": 8, "steps": 3}
    kinds = {"closed_form": 0.25, "nearest": 0.125}
    test = {f"trained_network/{kind}_accuracy": value for kind, value in kinds.items()}
    one = made_up.record("ssl_dd/teacher/x", {"test": test}, config=config)
    table = TABLES["ssl_dd_teacher"]([one])
    expected = "| digits, width 8, 3 steps | 25.00 (one seed) | 12.50 (one seed) |"
    assert expected in table


def test_the_ladder_makes_records_and_its_table(toy, tmp_path, capsys, monkeypatch):
    rows = "--rows=untrained,boosted"
    done = in_process.run(NAME, *toy, rows, capsys=capsys)
    assert done.status == 0, done.err
    records = [
        json.loads(p.read_text()) for p in (tmp_path / "records").rglob("*.json")
    ]
    rows_found = {each["config"]["row"] for each in records}
    assert rows_found == {"untrained", "boosted"}
    for each in records:
        assert set(each["results"]["scores"]) == {"validation", "test"}
        assert each["reduced"]
    plain = [
        {**each, "config": {**each["config"], "row": "krr_st"}} for each in records
    ]
    text = TABLES["ssl_dd_table_3"](records + plain[:1])
    assert "KRR-ST" in text and "52.41" in text and "floor" in text
    assert "one seed" in text
    assert "205 min" in TABLES["ssl_dd_table_13"](records)
    assert TABLES["ssl_dd_table_2"](records) == "No records yet."
    wider = [{**each, "config": {**each["config"], "budget": 25}} for each in records]
    assert "N = 25" in TABLES["ssl_dd_table_2"](records + wider)
    assert TABLES["ssl_dd_table_1"](records) == "No records yet."
    other = [{**each, "config": {**each["config"], "target": "b"}} for each in records]
    assert "**b**" in TABLES["ssl_dd_table_1"](records + other)
    # A row's run is done once, whatever is asked of it later.
    again = in_process.run(NAME, *toy, rows, capsys=capsys)
    assert "2 of 2 records are there" in again.out
    # A quarter of its iterations is enough for a picture.
    monkeypatch.setattr(manifold, "TSNE", partial(manifold.TSNE, max_iter=250))
    monkeypatch.setattr(figures, "_REAL", 40)
    drawn = in_process.run(
        "ssl_dd.figures", toy[0], toy[-1], f"--figures={tmp_path}", capsys=capsys
    )
    assert drawn.status == 0, drawn.err
    for name in ("bases", "images", "representations"):
        picture = np.asarray(Image.open(tmp_path / f"ssl_dd_{name}.png"))
        assert picture.std() > 0


def test_pictures_hold_what_is_stored():
    tiles = figures.tiles(np.stack([np.zeros((2, 2, 3)), np.full((2, 2, 3), 2.0)]))
    # White between them, clipped to what can be shown.
    assert tiles.shape == (4, 16 * 3 + 1, 3)
    assert tiles[1:3, 1:3].max() == 0 and tiles[1:3, 4:6].min() == 1
    assert tiles[0].min() == 1
