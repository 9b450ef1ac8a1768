"""What every command does alike: flags, cells that are measured once, and ends."""

import json
import runpy
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from absl import flags

import experiments
from ddjax import data, runtime, synthetic
from experiments import commands, records
from experiments.clp_dd import common
from experiments.commands import Cell, Measured
from tests.experiments import in_process

FOLDER = Path(experiments.__file__).parent
COMMANDS = sorted(
    ".".join(path.relative_to(FOLDER).with_suffix("").parts)
    for path in FOLDER.rglob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
# A command -> what to ask for, of that which is on record.
ON_RECORD = {
    "benchmarks.gram": (),
    "benchmarks.ridge": (),
    "benchmarks.unrolled": (),
    "clp_dd.ablation": (),
    "clp_dd.cost": ("--image_size=32",),
    "clp_dd.table": ("--datasets=imagenette", "--rows=clp,nearest"),
    "dgkip.step_time": (),
    "dgkip.ten_classes": (),
    "dgkip.trajectory": (),
    "dgkip.transfer": (),
    "regression_dd.convergence": (),
    "regression_dd.real_data": (),
}
WITH_DATA = {
    name: arguments
    for name, arguments in ON_RECORD.items()
    if not name.startswith("benchmarks.")
    and name not in ("clp_dd.cost", "regression_dd.convergence")
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name, capsys):
    with (
        in_process.app_run_in_process(("--help",)),
        in_process.flags_of(flags.FlagValues()),
        warnings.catch_warnings(),
        pytest.raises(SystemExit) as ended,
    ):
        # It may have been imported before.
        warnings.simplefilter("ignore", RuntimeWarning)
        runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    text = capsys.readouterr().out
    if not name.startswith("fill_tables"):
        assert not ended.value.code
    assert f"python -m experiments.{name}" in text and "--" in text
    if name in ON_RECORD:
        flat = " ".join(text.split())
        assert "--[no]again:" in flat and "--directory:" in flat
        assert "experiments/results/" in flat and "core" in flat
        assert ("--data_dir:" in flat) == (name in WITH_DATA)


@pytest.mark.parametrize("name", ON_RECORD)
def test_what_is_on_record_is_shown(name, capsys):
    ended = in_process.run(name, *ON_RECORD[name], capsys=capsys)
    assert ended.status == 0 and not ended.err
    first = ended.out.splitlines()[0]
    assert "records are there: experiments/results/" in first
    assert "--again measures anew" in first
    if name != "dgkip.trajectory":
        assert "for the table" in first and "\n| " in ended.out


def test_fully_connected_networks_have_a_table_of_their_own(capsys):
    fully = ("--architecture=fully_connected", "--per_class=1,10")
    lengths = ("--steps=300,150", "--learning_rates=0.1,0.1")
    ended = in_process.run("dgkip.transfer", *fully, *lengths, capsys=capsys)
    first = ended.out.splitlines()[0]
    assert "9 of 9 records are there" in first and "transfer_fully_connected" in first


@pytest.mark.parametrize("name", WITH_DATA)
def test_missing_data_are_one_line(name, tmp_path, capsys):
    arguments = (f"--data_dir={tmp_path}/none", f"--directory={tmp_path}/records")
    if name == "regression_dd.real_data":
        # One of its data sets is always there.
        arguments += ("--datasets=diabetes,diamonds",)
    ended = in_process.run(name, *arguments, capsys=capsys)
    assert ended.status == 2 and not ended.out
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: {tmp_path}/none/") and "Get " in line
    # Nothing was done for those data sets that are there.
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("dgkip.transfer", ["--datasets=mnits"], "no 'mnits'; there are: mnist, fash"),
        ("dgkip.transfer", ["--seeds=0,-1"], "'-1' is not a whole number from 0 on"),
        ("dgkip.transfer", ["--seeds="], "at least one value is needed"),
        ("dgkip.transfer", ["--per_class=1,2"], "--steps has 3 values and --per_class"),
        ("dgkip.trajectory", ["--learning_rates=1,x,1"], "'x' is not a positive numb"),
        ("dgkip.trajectory", ["--datasets=cifar10"], "Did you mean: dataset"),
        ("dgkip.ten_classes", ["--only=kip"], "there are: random real; k-means; KIP"),
        ("dgkip.step_time", ["mnist"], "unknown argument 'mnist'"),
        ("clp_dd.table", ["--rows=best"], "no 'best'; there are: full, random"),
        ("clp_dd.table", ["--encoders=resnet"], "no 'resnet'; there are: "),
        ("clp_dd.ablation", ["--variants=none"], "no 'none'; there are: default"),
        ("regression_dd.convergence", ["--readings=x"], "no 'x'; there are: all, fix"),
        ("regression_dd.convergence", ["--outer_steps=7"], "=7 is no multiple of 25"),
        ("benchmarks.ridge", ["--repeats=0"], "--repeats=0"),
        ("clp_dd.figures", ["--sets=nowhere"], "table leaves them there"),
        ("ssl_dd.figures", ["--sets=nowhere"], "table leaves them there"),
    ],
)
def test_wrong_values_are_one_line(name, arguments, message, tmp_path, capsys):
    if not name.endswith(".figures"):
        arguments = [*arguments, f"--directory={tmp_path}"]
    ended = in_process.run(name, *arguments, capsys=capsys)
    assert ended.status == 2 and not ended.out
    (line,) = ended.err.splitlines()
    assert line.startswith("error: ") and message in line


class Fake:
    """A command of three records, the last in two parts; it notes what it measures."""

    names = ("one", "two", "three")

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys
        self.measured, self.fail = [], {}
        self.steps = 5
        self.own = flags.FlagValues()

    def run(self, *arguments):
        self.measured.clear()
        with in_process.flags_of(self.own):
            if "again" not in flags.FLAGS:
                commands.define_record_flags()
                commands.define_minutes()
        return in_process.run_main(
            self.main,
            f"--directory={self.folder}",
            *arguments,
            own=self.own,
            capsys=self.capsys,
        )

    def main(self):
        cells = [self.cell(name) for name in self.names]
        commands.measure(cells, finish=lambda found: print(len(found), "drawn"))

    def cell(self, name):
        def part(which):
            self.measured.append(name + which)
            if name + which in self.fail:
                raise self.fail[name + which]
            return {"value": (1, 2.5)}

        parts = {which: lambda w=which: part(w) for which in ("a", "b")}
        return Cell(
            f"fake/{name}",
            {"seed": 3, "steps": self.steps, "sizes": (1, 2)},
            parts if name == "three" else commands.whole(lambda: part("")),
            lambda found: Measured({"found": found}, scale="tiny"),
            check=lambda: self.check(f"check of {name}"),
        )

    def check(self, name):
        if name in self.fail:
            raise self.fail[name]


@pytest.fixture
def fake(tmp_path, capsys):
    return Fake(tmp_path / "records", capsys)


def test_missing_records_are_measured_and_then_on_record(fake):
    first = fake.run()
    assert first.status == 0 and fake.measured == ["one", "two", "threea", "threeb"]
    lines = first.out.splitlines()
    assert lines[0] == "[1 of 4] fake/one" and lines[2].startswith(
        "[2 of 4] fake/two ("
    )
    assert any(line.startswith("[4 of 4] fake/three, b (about ") for line in lines)
    assert lines[-1] == "3 drawn"
    found = {each["name"]: each for each in records.read_records(fake.folder)}
    assert found["fake/three"]["results"]["found"]["b"] == {"value": [1, 2.5]}
    assert found["fake/three"]["seed"] == 3 and found["fake/one"]["scale"] == "tiny"
    again = fake.run()
    assert again.status == 0 and fake.measured == [] and not again.err
    assert again.out.splitlines() == [
        f"3 of 3 records are there: {fake.folder}/fake. --again measures anew and "
        "replaces them, --directory=DIR measures beside them."
    ]
    assert fake.run("--again").status == 0 and len(fake.measured) == 4


def test_records_of_other_settings_are_told(fake):
    fake.run()
    fake.steps = 6
    told = fake.run().out.splitlines()[0]
    assert fake.measured == [] and "with other settings (steps)" in told


@pytest.mark.parametrize(
    ("stop", "status"),
    [(KeyboardInterrupt(), 130), (runtime.Interrupted("stopped", 15), 143)],
)
def test_a_stopped_command_goes_on_with_what_is_missing(fake, stop, status):
    fake.fail["threeb"] = stop
    stopped = fake.run()
    assert stopped.status == status
    (line,) = stopped.err.splitlines()
    assert "stopped; 3 of 4 are measured, the same command goes on" in line
    assert len(records.read_records(fake.folder)) == 2
    fake.fail.clear()
    rest = fake.run()
    assert rest.status == 0 and fake.measured == ["threeb"]
    assert "[2 of 2] fake/three, b" in rest.out
    (three,) = (
        each
        for each in records.read_records(fake.folder)
        if each["name"] == "fake/three"
    )
    assert set(three["results"]["found"]) == {"a", "b"}
    assert [path.suffix for path in fake.folder.rglob("*.*")] == [".json"] * 3


def test_parts_of_other_settings_do_not_go_together(fake):
    fake.fail["threeb"] = KeyboardInterrupt()
    fake.run()
    fake.fail.clear()
    fake.steps = 6
    fake.run()
    assert fake.measured == ["threea", "threeb"]


def test_what_is_missing_is_said_before_anything_is_measured(fake):
    # Raised by the library itself, as every check does.
    try:
        request = commands.registry.Request(fake.folder)
        commands.registry.read_source("npz:none.npz", request)
    except ValueError as error:
        fake.fail["check of three"] = error
    ended = fake.run()
    assert ended.status == 2 and fake.measured == [] and "none.npz" in ended.err


def test_an_unwritable_place_is_said_before_anything_is_measured(fake):
    fake.folder.parent.joinpath("file").write_text("")
    fake.folder = fake.folder.parent / "file" / "records"
    ended = fake.run()
    assert ended.status == 2 and fake.measured == []
    assert ended.err.startswith("error: ") and len(ended.err.splitlines()) == 1


def test_a_diverged_run_is_one_line_and_loses_nothing(fake):
    fake.fail["two"] = runtime.Diverged("loss is nan at step 3 of 5")
    ended = fake.run()
    assert ended.status == 1 and "error: loss is nan at step 3" in ended.err
    assert [each["name"] for each in records.read_records(fake.folder)] == ["fake/one"]


def test_a_damaged_part_is_measured_anew(fake):
    fake.fail["threeb"] = KeyboardInterrupt()
    fake.run()
    (fake.folder / "fake" / "three.parts").write_text('{"about": ')
    fake.fail.clear()
    assert fake.run().status == 0 and fake.measured == ["threea", "threeb"]
    assert json.loads((fake.folder / "fake/three.json").read_text())["seed"] == 3


class Claimed(Fake):
    """The same of two records that are claimed."""

    names = ("one", "two")

    def __init__(self, folder, capsys):
        super().__init__(folder, capsys)
        self.waits = threading.Event()

    def claim(self, name):
        folder = self.folder.parent / "claims" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def cell(self, name):
        return super().cell(name)._replace(claim=self.claim(name))


@pytest.fixture
def claimed(tmp_path, capsys, monkeypatch):
    made = Claimed(tmp_path / "records", capsys)

    def sleep(seconds):
        made.waits.set()
        time.sleep(0.05)

    own = SimpleNamespace(**{**vars(time), "sleep": sleep})
    monkeypatch.setattr(commands, "time", own)
    return made


def test_what_another_one_leaves_undone_is_taken_over(claimed):
    with in_process.held(claimed.claim("one"), left=claimed.waits):
        ended = claimed.run()
    assert ended.status == 0 and claimed.measured == ["two", "one"]
    (line,) = (each for each in ended.out.splitlines() if each.startswith("waiting"))
    assert "waiting for fake/one (" in line and "in use by process" in line


@pytest.mark.parametrize("arguments", [(), ("--again",)])
def test_what_another_one_has_done_is_not_done_again(claimed, arguments):
    if arguments:
        assert claimed.run().status == 0

    def write():
        records.write_record(
            *("fake/one", {"seed": 0}, {"by": "another"}),
            scale="tiny",
            wall_seconds=1.0,
            directory=claimed.folder,
        )

    with in_process.held(claimed.claim("one"), left=claimed.waits, then=write):
        ended = claimed.run(*arguments)
    assert ended.status == 0 and claimed.measured == ["two"]
    found = records.read_records(claimed.folder)
    assert [each["results"].get("by") for each in found] == ["another", None]


def test_time_that_is_over_ends_the_waiting_too(claimed):
    with in_process.held(claimed.claim("one")):
        ended = claimed.run("--minutes=0.002")
    assert ended.status == 143 and "1 of 2 are measured" in ended.err
    assert "with others: fake/one" in ended.err or claimed.measured == ["two"]


def _worth(*_, splits, **__):
    scores = dict.fromkeys(("closed_form_accuracy", "gradient_accuracy"), 0.5)
    return {
        split: {f"linear_probe/{k}": v for k, v in scores.items()} for split in splits
    }


def _rows(*_, per_class, **settings):
    if "duals" not in settings:
        row = {"method": "k-means", "per_class": 1, "probe_softmax/accuracy": 0.5}
        return [row for _ in per_class]
    both = {"evaluated_with": {model: {"test": 0.5} for model in ("lr", "svm")}}
    return [{"distilled_with": "all real data", "images": 9, **both}] + [
        {"distilled_with": model, "per_class": count, **both}
        for count in per_class
        for model in ("lr", "svm")
    ]


def _curve(problem, *, per_class, **_):
    del problem, per_class
    return [{"step": 0, "deviation": 0.5, "bound": 0.9, "test": 0.8}]


@pytest.mark.parametrize(
    ("name", "arguments", "names", "stand_ins"),
    [
        (
            "dgkip.transfer",
            ["--datasets=mnist,cifar10", "--seeds=4"],
            ["transfer/cifar10_convolutional_seed4", "transfer/mnist_convol"],
            {"run_seed": _rows},
        ),
        (
            "dgkip.ten_classes",
            ["--datasets=mnist", "--seeds=1,2", "--only=KIP"],
            ["ten_classes/mnist_seed1", "ten_classes/mnist_seed2"],
            {"run_seed": _rows},
        ),
        (
            "dgkip.trajectory",
            ["--dataset=mnist"],
            ["figure2/mnist"],
            {"trajectory": _curve},
        ),
        (
            "clp_dd.table",
            ["--datasets=cub50", "--encoders=mobilenetv2", "--rows=clp,random"],
            [f"cub50_mobilenetv2_{row}" for row in ("clp", "random") for _ in range(3)],
            {"linear_probe": lambda **_: None},
        ),
        (
            "clp_dd.ablation",
            ["--variants=default,lambda 1", "--seeds=0"],
            ["mobilenetv2_default_seed0", "mobilenetv2_lambda_1_seed0"],
            {"linear_probe": lambda **_: None},
        ),
    ],
)
def test_records_are_named_and_fill_their_table(
    name, arguments, names, stand_ins, tmp_path, monkeypatch, capsys
):
    module, images = in_process.load(name), np.zeros((9, 8, 8, 3), np.float32)
    problem = data.from_arrays((images, np.arange(9) % 3), preprocessing="none")
    monkeypatch.setattr(commands, "check_data", lambda _: None)
    monkeypatch.setattr(module.common, "load", lambda *_, **__: problem)
    for each, stand_in in stand_ins.items():
        monkeypatch.setattr(module, each, stand_in)
    if name.startswith("clp_dd"):
        run = SimpleNamespace(
            distilled=None, history=[{"loss": 1.0}], seconds_per_step=0.1
        )
        for each, result in {
            "encoder": SimpleNamespace(name="mobilenetv2"),
            "method_of": None,
            "distil": run,
            "real_set": None,
        }.items():
            monkeypatch.setattr(common, each, lambda *_, r=result, **__: r)
        monkeypatch.setattr(common, "worth", _worth)
        monkeypatch.setattr(synthetic, "save", lambda *_: None)
    arguments = [*arguments, f"--directory={tmp_path}"]
    ended = in_process.run(name, *arguments, capsys=capsys)
    assert ended.status == 0 and not ended.err
    found = records.read_records(tmp_path)
    assert len(found) == len(names)
    for record, part in zip(found, names, strict=True):
        assert part in record["name"] and str(record["seed"]) in "01234"
    if name == "dgkip.trajectory":
        assert "[3 of 3] dgkip/figure2/mnist, 50" in ended.out
        png = (tmp_path / "dgkip/figure2/mnist.png").read_bytes()
        assert png.startswith(b"\x89PNG")
    else:
        assert "\nTable " in ended.out and "50.00" in ended.out
    again = in_process.run(name, *arguments, capsys=capsys)
    assert "[1 of" not in again.out and "other settings" not in again.out
