"""The console command: each sub-command on digits, its mistakes, its speed."""

import json
import shlex
import tomllib

import jax
import numpy as np
import pytest
from safetensors import safe_open

from ddjax import command, evaluation, synthetic
from ddjax.command import configuration, doctor, keywords
from ddjax.command import distil as distil_module
from ddjax.models import encoders
from ddjax.models.encoders import settings as encoder_settings
from ddjax.runtime import CannotWrite, Diverged, Interrupted, NotEnoughMemory, memory
from tests import pages
from tests.processes import python
from tests.slow import slow

DATA = ("--data", "digits", "--load", "classes=[0, 1]", "limit=100")
METHOD = ("--method", "dgkip", "--set", "features.kind=inputs", "real_ridge=1e-2")
METHOD += ("distilled_ridge=1e-2", "loss=logistic", "descent.learning_rate=0.01")
EVALUATIONS = ("--evaluate", "kernel_regression:kernel=inputs,ridge=1e-3")
EVALUATIONS += ("--evaluate", "certificate")


@pytest.fixture
def ddjax(capsys):
    """Runs the command in this process; gives its status and what it printed."""

    def run(*words):
        capsys.readouterr()
        try:
            status = command.main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return run


def _distil(folder, *more):
    words = ("distil", *DATA, *METHOD, *EVALUATIONS, "--steps", "3", "--workdir")
    return [*words, str(folder), *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a finished run."""
    path = tmp_path_factory.mktemp("distilled") / "run"
    assert command.main(_distil(path)) == 0
    return path


def test_distils_and_goes_on(ddjax, folder):
    distilled = synthetic.load(folder / "distilled")
    assert distilled.provenance["steps"] == 3
    assert distilled.provenance["settings"]["descent"]["learning_rate"] == 0.01
    assert "ddjax distil" in (folder / "report.md").read_text()
    card = (folder / "distilled" / "README.md").read_text()
    assert card.startswith('---\npretty_name: "digits, distilled to 2 images by dgkip"')
    assert synthetic.digest(distilled) in card and "## Certificate" in card
    status, out, _ = ddjax(*_distil(folder))
    assert status == 0 and "has been finished" in out
    assert "2 distilled images" in out
    # Another run is refused, a longer one goes on.
    status, _, err = ddjax(*_distil(folder, "--seed", "1"))
    assert status == 2 and "is of another run: seed is 0 there, 1 here" in err


def test_a_longer_run_goes_on(ddjax, tmp_path):
    words = ("distil", *DATA, "--method", "selection", "--workdir", tmp_path / "run")
    assert ddjax(*words, "--steps", "1")[0] == 0
    status, out, _ = ddjax(*words, "--steps", "2", "--train", "log_every=1")
    assert status == 2  # another log is another configuration
    status, out, _ = ddjax(*words, "--steps", "2")
    assert (
        status == 0 and "going on from step 1" in out and "Nothing was trained" in out
    )


def test_steps_are_traced_on_request(ddjax, tmp_path):
    path = tmp_path / "run"
    words = ("distil", *DATA, "--method", "selection", "--workdir", path)
    words += ("--steps", "3", "--profile", "1")
    assert ddjax(*words)[0] == 0
    (trace,) = (path / "profile").rglob("perfetto_trace.json.gz")
    assert trace.stat().st_size
    # The same command says of a finished run what it found.
    status, out, err = ddjax(*words)
    assert status == 0 and "has been finished" in out
    assert "no step left to profile" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "dgkpi"), "unknown method 'dgkpi'; known: analytic"),
        (("--set", "per_clas=1"), "takes no 'per_clas'; did you mean 'per_class'?"),
        (("--set", "per_class=one"), "per_class is 'one', of type str; it takes int"),
        (("--set", "per_class"), "--set takes key=value, got 'per_class'"),
        (("--load", "limt=3"), "--load has no 'limt'. Did you mean 'limit'?"),
        (("--load", "directory=x"), "give it as --directory"),
        (("--data", "digit"), "unknown data set 'digit', did you mean 'digits'?"),
        (("--train", "chnk=3"), "--train has no 'chnk'. Did you mean 'chunk'?"),
        (("--evaluate", "prob"), "; did you mean 'probe'?"),
        (("--evaluate", "certificate"), "two of one name"),
        (("--evaluate", "probe:draws=x"), "draws is 'x', of type str"),
        (("--steps", "few"), "invalid int value: 'few'"),
        (("--seed", "-1"), "seed must be at least 0"),
        (("--profile", "0"), "profile must be at least 1, got 0"),
        (("--profile", "3"), "the run has 3; at most 2 can be"),
        (("--train", "profile=2"), "--train has no 'profile'"),
        (("--seeds", "0,1,x"), "--seeds is '0,1,x'; it is whole numbers with commas"),
        (("--seeds", "1,1"), "seeds are different whole numbers"),
        (("--seed", "1", "--seeds", "0,1"), "--seed and --seeds: give one of them"),
        (("--preset", "dgkpi"), "--preset has no 'dgkpi'. Did you mean 'dgkip'?"),
        (("--config", "run.yaml"), "run.yaml: a configuration is a .json or a .toml"),
        (("--config", "none.toml"), "none.toml: No such file or directory"),
        (("--preset", "kip", "--config", "a.toml"), "not allowed with argument"),
        (("--unknown",), "unrecognized arguments: --unknown; ddjax --help"),
    ],
)
def test_mistakes_are_one_line(ddjax, tmp_path, words, said):
    status, _, err = ddjax(*_distil(tmp_path / "run", *words))
    assert status == 2
    assert err.startswith("error: ") and said in err and err.count("\n") == 1
    assert not any((tmp_path / "run").rglob("*.json"))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Diverged("loss is nan"), 1),
        (CannotWrite("the disk is full"), 3),
        (NotEnoughMemory("too large"), 4),
        (RuntimeError("unexpected"), 70),
        (Interrupted("stopped", 15), 143),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_end_has_its_status(ddjax, monkeypatch, tmp_path, error, status):
    def ends(*args, **kwargs):
        raise error

    monkeypatch.setattr(distil_module, "execute", ends)
    ended, _, err = ddjax(*_distil(tmp_path))
    assert ended == status and str(error) in err
    assert ("Traceback" in err) == (status == 70)
    assert f" {status}" in ddjax("--help")[1]


def test_evaluates_as_the_run_did(ddjax, folder):
    results = json.loads((folder / "results.json").read_text())
    # The data are cut as they were; nothing has to be given again.
    words = ("evaluate", folder, "--data", "digits", "--evaluation")
    kernel = ("kernel_regression", "--set", "kernel=inputs", "ridge=1e-3")
    status, out, _ = ddjax(*words, *kernel, "--json")
    found = json.loads(out)
    assert status == 0 and found["digest"] == results["digest"]
    name = "kernel_regression/accuracy"
    assert found["scores"][name] == results["test"][name]
    status, out, _ = ddjax(*words, *kernel, "--split", "validation")
    assert status == 0 and "validation" in out and "2 distilled images" in out
    status, out, _ = ddjax(*words, "certificate")
    assert status == 0 and "test error, proven to lie between" in out
    status, out, _ = ddjax(*words, *kernel, "--load", "limit=50")
    assert status == 0 and "not the data" in out
    status, _, err = ddjax(*words, "probe", "--seed", "-1")
    assert status == 2 and "--seed is -1" in err


def test_inspects_and_verifies(ddjax, folder):
    digest = json.loads((folder / "results.json").read_text())["digest"]
    status, out, _ = ddjax("inspect", folder)
    assert status == 0
    for said in (
        "2 images of 8 x 8 x 1, float32",
        "128 numbers for inputs (those of 2 images)",
        "standardize",
        "steps           3",
        "terms of data   digits: CC-BY-4.0",
        f"verified        digest {digest}",
        "not verified    certificate",
    ):
        assert said in out
    status, out, _ = ddjax("inspect", folder, "--data", "digits")
    assert status == 0 and "certificate, computed again on digits: the test" in out
    assert "not verified" not in out
    status, _, err = ddjax("inspect", folder, "--data", "digits", "--load", "seed=1")
    assert status == 2 and "other data, or cut otherwise" in err


def test_what_does_not_follow_is_told(ddjax, folder, tmp_path):
    distilled = synthetic.load(folder / "distilled")
    certificate = distilled.certificate
    assert certificate is not None
    wrong = {**certificate, "radius": 0.5 * certificate["radius"]}
    synthetic.save(tmp_path / "a", distilled._replace(certificate=wrong))
    status, _, err = ddjax("inspect", tmp_path / "a")
    assert status == 2 and "certificate: radius is" in err
    # It agrees with itself, and not with the data.
    wrong = {**certificate, "error": certificate["error"] + 0.25}
    synthetic.save(tmp_path / "b", distilled._replace(certificate=wrong))
    assert ddjax("inspect", tmp_path / "b")[0] == 0
    status, _, err = ddjax("inspect", tmp_path / "b", "--data", "digits")
    assert status == 2 and "certificate: error is" in err
    (tensors,) = (tmp_path / "a").glob("*.safetensors")
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    status, _, err = ddjax("inspect", tmp_path / "a")
    assert status == 2 and tensors.name in err


def test_a_terminal_is_not_commanded(ddjax, folder, tmp_path):
    distilled = synthetic.load(folder / "distilled")
    names = ("\x1b[31mred", "plain")
    synthetic.save(tmp_path / "set", distilled._replace(class_names=names))
    status, out, _ = ddjax("inspect", tmp_path / "set")
    assert status == 0 and "\x1b" not in out and r"\x1b[31mred, plain" in out


def test_exports(ddjax, folder, tmp_path):
    files = [tmp_path / "new" / name for name in ("a.npz", "b.safetensors", "c.png")]
    npz, torch, png = files
    status, out, _ = ddjax(
        "export", folder, "--npz", npz, "--torch", torch, "--png", png
    )
    assert status == 0 and all(f"wrote {file}" in out for file in files)
    with np.load(npz) as arrays:
        assert arrays["inputs"].shape == (2, 8, 8, 1)
    with safe_open(torch, framework="np") as tensors:
        assert tensors.get_tensor("inputs").shape == (2, 1, 8, 8)
    assert png.read_bytes().startswith(b"\x89PNG")
    status, _, err = ddjax("export", folder, "--csv", tmp_path / "d.csv")
    assert status == 2 and "cannot be exported" in err
    status, _, err = ddjax("export", folder)
    assert status == 2 and "--npz, --torch, --csv, --png" in err
    status, _, err = ddjax("export", tmp_path / "nothing", "--npz", npz)
    assert status == 2 and "there is no such file or folder" in err


def test_doctor(ddjax, monkeypatch, tmp_path):
    (tmp_path / "mnist").mkdir()
    monkeypatch.setenv("DDJAX_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(doctor, "float64_convolutions_may_crash", lambda: False)
    monkeypatch.setattr(doctor, "_has_nvidia_card", lambda: False)
    monkeypatch.setitem(doctor._EXTRAS, "no-such-package", "extra")
    status, out, _ = ddjax("doctor")
    assert status == 0 and "no known trap" in out and "warning" not in out
    for said in ("jaxlib", "orbax-checkpoint", "free disk", "holds mnist"):
        assert said in out
    assert "not installed: pip install 'ddjax[extra]'" in out
    monkeypatch.setattr(doctor, "float64_convolutions_may_crash", lambda: True)
    monkeypatch.setattr(doctor, "_has_nvidia_card", lambda: True)
    out = ddjax("doctor")[1]
    assert "--xla_cpu_max_isa=AVX2" in out
    assert ("ddjax[gpu]" in out) == ("cpu: cpu" in out)


TINY = """\
steps = 2
[data]
name = "digits"
classes = [0, 1]
limit = 100
[method]
name = "dgkip"
loss = "logistic"
real_ridge = 1e-2
distilled_ridge = 1e-2
features = { kind = "inputs" }
descent = { learning_rate = 0.5, schedule = "cosine" }
[evaluate.kernel_regression]
kernel = "inputs"
ridge = 1e-3
"""


@pytest.fixture
def tiny(tmp_path):
    """A configuration in a file."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_flags_stand_in_place_of_the_file(ddjax, tiny, tmp_path):
    def wanted(*words):
        return distil_module.wanted(command._parser().parse_args(["distil", *words]))

    found = wanted("--config", str(tiny))
    assert (found.seed, found.train["steps"]) == (0, 2)
    assert found.config["evaluate"]["kernel_regression"]["name"] == "kernel_regression"
    flags = "--seed 3 --steps 5 --set descent.learning_rate=0.1 --load limit=60"
    found = wanted("--config", str(tiny), *flags.split(), "--train", "choose=last")
    assert (found.seed, found.train["steps"]) == (3, 5)
    assert found.train["choose"] == "last" and found.config["data"]["limit"] == 60
    descent = found.method.settings["descent"]
    assert descent["learning_rate"] == 0.1 and descent["schedule"] == "cosine"
    # The keywords of one method are none of another's; evaluations are replaced.
    found = wanted(
        *("--config", str(tiny), "--method", "selection", "--evaluate", "probe")
    )
    assert found.config["method"] == {"name": "selection"}
    assert list(found.evaluations) == ["probe"]
    # JSON says the same.
    as_json = tmp_path / "tiny.json"
    as_json.write_text(json.dumps(tomllib.loads(TINY)))
    on_json = ("--config", str(as_json))
    assert wanted(*on_json).config == wanted("--config", str(tiny)).config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("steps = 2", "stps = 2"), "has no 'stps'. Did you mean 'steps'?"),
        (("steps = 2", 'steps = "2"'), "steps is '2'; it is of type int"),
        (("steps = 2", "steps = "), "tiny.toml: Invalid value"),
        (("[data]", "[evaluate]"), "evaluate.name is 'digits'; it is a table"),
        (("loss =", "los ="), "takes no 'los'; did you mean 'loss'?"),
        (("limit = 100", 'limit = "x"'), "data.limit is 'x', of type str; it takes i"),
        (("steps = 2", ""), "--steps is missing"),
        (('name = "digits"', ""), "--data is missing"),
        (('name = "dgkip"', ""), "--method is missing"),
    ],
)
def test_mistakes_in_a_file_are_one_line(ddjax, tiny, tmp_path, change, said):
    tiny.write_text(TINY.replace(*change))
    status, _, err = ddjax("distil", "--config", tiny, "--workdir", tmp_path / "run")
    assert status == 2 and said in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_a_step_needs_and_writes_nothing(
    ddjax, tiny, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = ("distil", "--config", tiny, "--dry-run")
    status, out, _ = ddjax(*words, "--set", "features.kind=inputs")
    assert status == 0 and "a step, besides these" in out and "MiB" in out
    assert list(tmp_path.iterdir()) == [tiny]
    monkeypatch.setattr(memory, "free_memory", lambda: 0)
    status, _, err = ddjax(*words)
    assert status == 4 and "the run does not fit in memory: a step takes" in err
    status, _, err = ddjax(*words[:-1])
    assert status == 2 and "--workdir is missing" in err


def test_seeds_are_runs_and_a_table(ddjax, tiny, tmp_path, folder):
    words = ("distil", "--config", tiny, "--seeds", "0,2", "--workdir", tmp_path / "s")
    status, out, _ = ddjax(*words)
    *_, table = out.partition("run  ")
    assert status == 0 and "±" in table and "over seeds" in table
    assert json.loads((tmp_path / "s" / "seed_2" / "run.json").read_text())["seed"] == 2
    # They and another run, for a reader and for programs.
    files = [tmp_path / "new" / name for name in ("table.csv", "page.html")]
    words = ("compare", tmp_path / "s", folder, "--csv", files[0], "--html", files[1])
    status, out, _ = ddjax(*words)
    assert status == 0 and all(f"wrote {file}" in out for file in files)
    assert "digits" in out and "test error, certified" in out
    assert "descent.learning_rate=0.5" in out and "learning_rate=0.01" in out
    assert files[0].read_text().startswith("run,data,fingerprint,settings,seeds")
    assert files[1].read_text().count("data:image/png;base64,") == 2
    status, out, _ = ddjax("compare", folder, "--json")
    (line,) = json.loads(out)["lines"]
    name = "kernel_regression/accuracy"
    results = json.loads((folder / "results.json").read_text())
    assert line["scores"]["test"][name]["mean"] == results["test"][name]["mean"]
    status, _, err = ddjax("compare", tmp_path / "none")
    assert status == 2 and "there is no such file or folder" in err


def test_every_preset_is_a_run(ddjax, monkeypatch):
    # Weights that are drawn stand for those that lie nowhere here.
    def drawn(name):
        return encoders.random(name, jax.random.key(0))

    monkeypatch.setattr(encoders, "load", drawn)
    monkeypatch.setattr(encoder_settings, "_LOADED", {})
    status, out, _ = ddjax("distil", "--list")
    found = configuration.presets()
    assert status == 0 and len(found) >= 9
    for name, text in found.items():
        assert f"\n{name}\n" in f"\n{out}" and f"ddjax distil --preset {name} " in text
        words = ["distil", "--preset", name]
        made = distil_module.wanted(command._parser().parse_args(words))
        assert made.evaluations and made.method.name == name
        # A reader is told what to expect of it.
        assert name == "clp" or "Measured on two CPU cores: " in text


@pytest.mark.parametrize(
    ("name", "settings", "evaluation"),
    [
        # The command distils with this method above, without a preset.
        slow(
            *("dgkip", "features.networks=1 features.architecture.width=8"),
            "certificate",
        ),
        ("regression", "features.frequencies=4 count=3", "regression:draws=1"),
    ],
)
def test_presets_run_from_end_to_end(ddjax, tmp_path, name, settings, evaluation):
    words = ["distil", "--preset", name, "--steps", "1", "--workdir", tmp_path / "run"]
    words += ["--set", *settings.split(), "--load", "limit=60"]
    status, out, err = ddjax(*words, "--evaluate", evaluation)
    assert status == 0, err
    assert "step 1 of 1" in out
    assert (tmp_path / "run" / "report.html").is_file()


def test_settings_are_read():
    read = keywords.read("--set", ["a.b=1e-3", "a.c=null", "d=[0, 1]", "e=softmax"])
    assert read == {"a": {"b": 1e-3, "c": None}, "d": [0, 1], "e": "softmax"}
    with pytest.raises(ValueError, match="'a' has a value already"):
        keywords.read("--set", ["a=1", "a.b=2"])
    with pytest.raises(ValueError, match="'b' has a value already"):
        keywords.read("--set", ["a.b=1", "a.b=2"])
    with pytest.raises(ValueError, match="takes key=value"):
        keywords.read("--set", ["a..b=1"])
    parts = keywords.split('a=[0, 1],b={"c": "x,]y"},d=2')
    assert parts == ["a=[0, 1]", 'b={"c": "x,]y"}', "d=2"]


def test_the_help_brings_in_nothing_heavy():
    code = (
        "import sys\nfrom ddjax.command import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as ended:\n"
        "    print(ended.code, *{name.split('.')[0] for name in sys.modules})\n"
    )
    *shown, last = python("-c", code).splitlines()
    status, *modules = last.split()
    assert status == "0" and any("distil" in line for line in shown)
    assert not {"jax", "numpy", "flax", "scipy"} & set(modules)


def test_the_commands_of_the_pages_are_understood():
    found = []
    for page in pages.PAGES:
        for block in pages.blocks(page, ""):
            for line in block.code.replace("\\\n", " ").splitlines():
                if line.startswith("ddjax "):
                    found.append(shlex.split(line, comments=True)[1:])
    assert len(found) >= 6
    for words in found:
        arguments = command._parser().parse_args(words)
        if arguments.module == "distil" and not arguments.list:
            distil_module.wanted(arguments)
        if arguments.module == "evaluate":
            settings = keywords.read("--set", arguments.set)
            evaluation.make(arguments.evaluation, **settings)
