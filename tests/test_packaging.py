"""What is installed and what importing it brings in, each in a fresh process."""

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata

import pytest

from tests.processes import ROOT, python

HEAVY = (
    "tensorflow",
    "tensorflow_datasets",
    "flax",
    "matplotlib",
    "orbax",
    "sklearn",
    "ml_collections",
    "neural_tangents",
    "optax",
    "PIL",
    "scipy.optimize",
    "tensorboardX",
    "urllib3",
    "requests",
)


def test_kernels_bring_in_nothing_heavy():
    # The package imports its modules when they are first used: name every one.
    folder = ROOT / "ddjax" / "kernels"
    names = sorted(path.stem for path in folder.glob("[a-z]*.py"))
    output = python(
        "-c",
        "import sys, jax, jax.numpy, jax.scipy.linalg\n"
        "before = set(sys.modules)\n"
        f"import {', '.join(f'ddjax.kernels.{name}' for name in names)}\n"
        "print(*set(sys.modules) - before)",
    )
    brought = {
        name
        for name in output.split()
        for heavy in HEAVY
        if name == heavy or name.startswith(heavy + ".")
    }
    assert not brought, sorted(brought)


def test_packages_bring_in_no_tensorflow_or_plots_and_leave_jax_as_it_was():
    modules, changed = python(
        "-c",
        "import sys, jax\n"
        "before = dict(jax.config.values)\n"
        "import ddjax.kernels, ddjax.data, ddjax.models, ddjax.synthetic\n"
        "import ddjax.methods\n"
        "print(*sys.modules)\n"
        "import ddjax.runtime\n"
        "print({k for k, v in jax.config.values.items() if before.get(k) != v})\n",
    ).splitlines()
    top = {name.split(".")[0] for name in modules.split()}
    assert not top & {"tensorflow", "tensorflow_datasets", "neural_tangents"}
    assert not top & {"matplotlib", "ml_collections", "torch"}
    assert changed == "set()"


def test_a_wheel_has_every_file_and_its_command_distils(tmp_path):
    source, there = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "ddjax", source / "ddjax", ignore=ignored)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    build += ["--wheel-dir", tmp_path, source]
    built = subprocess.run(build, capture_output=True, text=True, timeout=240)
    if "No matching distribution found for setuptools" in built.stderr:
        pytest.skip("no package index from which pip could take setuptools")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        file.extractall(there)
    (scripts,) = there.glob("*.dist-info/entry_points.txt")
    assert "ddjax = ddjax.command:main" in scripts.read_text()
    assert "ddjax/py.typed" in names
    # Presets and pages as well as modules.
    files = (path for path in (source / "ddjax").rglob("*") if path.is_file())
    assert {str(path.relative_to(source)) for path in files} == {
        name for name in names if name.startswith("ddjax/")
    }
    # From outside the source tree, without what else lies there.
    preset = "distil --preset selection --load limit=60 --workdir run".split()
    preset += ["--evaluate", "kernel_regression:kernel=inputs"]
    code = f"from ddjax.command import main\nmain({preset})"
    said = python("-c", code, cwd=there, PYTHONPATH=str(there))
    assert "10 distilled images" in said
    assert (there / "run" / "report.html").is_file()


def test_pyproject_holds_build_system_and_tools_only():
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert set(tomllib.load(file)) == {"build-system", "tool"}


def _requirements() -> dict[str, list[str]]:
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    base = {"": parser["options"]["install_requires"]}
    groups = base | dict(parser["options.extras_require"])
    return {
        group: [line.strip() for line in lines.splitlines() if line.strip()]
        for group, lines in groups.items()
    }


def _name(requirement: str) -> str:
    bare = re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", bare).lower()


@pytest.mark.parametrize("tag", ["py311", "py312"])
def test_every_requirement_is_locked(tag):
    lock = (ROOT / ".ci" / f"constraints-{tag}.txt").read_text(encoding="utf-8")
    pins = [line for line in lock.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^=\s]+", pin) for pin in pins)
    locked = {_name(pin) for pin in pins}
    wanted = {_name(r) for lines in _requirements().values() for r in lines}
    assert wanted - locked <= {"ddjax"}


def test_tensorflow_is_in_no_base_install():
    assert not {"tensorflow", "neural-tangents", "grain", "torch"} & {
        _name(requirement) for requirement in _requirements()[""]
    }


def test_the_version_is_the_one_installed():
    import ddjax

    try:
        installed = metadata.version("ddjax")
    except metadata.PackageNotFoundError:
        pytest.skip("ddjax runs from a folder that is not installed")
    assert installed == ddjax.__version__
