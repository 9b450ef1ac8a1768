"""The pages keep their word: links lead somewhere, code runs, commands exist."""

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import io
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ddjax import data, methods, runtime, synthetic
from experiments import completion
from tests import pages

LARGEST_README = 8000

# What cannot run here, and why; calls in it are checked all the same.
NOT_RUN = {
    ("docs/own-images.md", "encoders.load"): "weights",
    ("docs/papers/ssl_dd.md", "methods.ssl_dd"): "weights",
    ("docs/encoders.md", "encoders.random"): "seconds of compilation",
    ("docs/encoders.md", "import torch"): "torch",
}
# The same code with less to do.
SMALLER = (
    ("steps=500", "steps=2"),
    ("steps=1000", "steps=2"),
    ("seeds=range(3)", "seeds=range(1)"),
    ('"width": 128', '"width": 8'),
)


def test_the_first_page_is_short():
    assert len(pages.README.read_bytes()) <= LARGEST_README


def test_two_clicks_from_the_first_page():
    text = pages.README.read_text(encoding="utf-8")
    for page, title in (
        ("docs/own-images.md", "## What it costs"),
        ("docs/own-images.md", "### What to expect"),
        ("docs/certificates.md", "## What is not proven"),
        ("docs/limits.md", "## Not proven"),
    ):
        assert f"({page})" in text
        assert title in (pages.ROOT / page).read_text(encoding="utf-8"), page


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name_of)
def test_relative_links_lead_to_files(page):
    text = pages.without_code(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            file = page.parent / target.partition("#")[0]
            assert file.exists(), f"{pages.name_of(page)} links to {target}"


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name_of)
def test_names_and_keywords_of_the_code_exist(page):
    names = {}
    for block in pages.blocks(page, "python"):
        tree = ast.parse(block.code)
        names |= _imported(tree)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = _resolved(call.func, names)
            if function is None or not callable(function):
                continue
            given = {each.arg for each in call.keywords} - {None}
            known = inspect.signature(function).parameters.values()
            if not any(each.kind == each.VAR_KEYWORD for each in known):
                unknown = given - {each.name for each in known}
                assert not unknown, f"{ast.unparse(call.func)} takes no {unknown}"


def _imported(tree):
    """What a block imports from here, by the names that it gives to it."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ddjax"):
            for alias in node.names:
                module = importlib.import_module(node.module)
                found[alias.asname or alias.name] = getattr(module, alias.name)
    return found


def _resolved(node, names):
    """The object that `a.b.c` names, None where `a` is not imported from here."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        base = _resolved(node.value, names)
        return None if base is None else getattr(base, node.attr)
    return None


def _run(page, names, patch):
    """Runs the blocks of a page that can run here, one after the other."""
    name = pages.name_of(page)
    whole = data.load
    # Ten of each digit are enough to run.
    patch.setattr(data, "load", functools.partial(whole, limit=150))
    for block in pages.blocks(page, "python"):
        if any(key[0] == name and key[1] in block.code for key in NOT_RUN):
            continue
        code = block.code
        for large, small in SMALLER:
            code = code.replace(large, small)
        exec(compile(code, f"<{name}>", "exec"), names)
    patch.setattr(data, "load", whole)
    return names


@pytest.fixture(scope="module")
def first_page(tmp_path_factory):
    """The folder in which the first page's code has run, and what it printed."""
    folder = tmp_path_factory.mktemp("first_page")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        _run(pages.README, {}, patch)
    return folder, printed.getvalue()


def test_the_first_pages_code_ends_in_a_score_and_a_set(first_page):
    (block,) = pages.blocks(pages.README, "python")
    # Ten statements, one argument a line.
    assert len(ast.parse(block.code).body) <= 10
    folder, printed = first_page
    assert re.search(r"test accuracy \d+\.\d%", printed)
    distilled = synthetic.load(folder / "distilled")
    assert distilled.class_names == tuple("0123456789")


def test_the_page_on_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    streets = ("Mill Lane", "High Street")
    lines = [f"{1 + i % 5},{streets[i % 2]},{100 + 7 * i}" for i in range(20)]
    for file in ("houses.csv", "new_houses.csv"):
        Path(file).write_text("\n".join(["rooms,street,price", *lines]))
    table = {"target": "price"}
    problem = data.load("table:houses.csv", directory=tmp_path, table=table)
    method = methods.row_selection(count=4)
    distilled = runtime.train(method, problem, steps=0, verbose=False).distilled
    synthetic.save("runs/houses/distilled", distilled)
    names = _run(pages.ROOT / "docs" / "own-table.md", {}, monkeypatch)
    assert names["prices"].shape == (2, 1)


def test_the_page_on_regression(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = _run(pages.ROOT / "docs/papers/regression_dd.md", {}, monkeypatch)
    assert names["result"].distilled.targets_kind == "regression"


def _of_digits():
    images, labels = load_digits(return_X_y=True)
    images, labels = images[:150].reshape(-1, 8, 8, 1), labels[:150]
    test = {"test_images": images, "test_labels": labels}
    return {"images": images, "labels": labels, **test}


def _of_vectors():
    rows = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    signs = np.where(np.arange(12) % 2, 1.0, -1.0).astype(np.float32)
    gram = rows[:3] @ rows[:3].T + np.eye(3, dtype=np.float32)
    few = {"few_features": rows[:4], "few_labels": signs[:4]}
    kernel = {"gram": gram, "targets": signs[:3, None]}
    return {"features": rows, "labels": signs, **few, **kernel}


# What the reader of a page has.
READERS = {
    "docs/artefact.md": dict,
    "docs/certificates.md": _of_vectors,
    "docs/command.md": dict,
    "docs/encoders.md": dict,
    "docs/kernels.md": _of_vectors,
    "docs/methods.md": dict,
    "docs/own-images.md": _of_digits,
    "docs/papers/ssl_dd.md": dict,
    "docs/report.md": lambda: {"config": SimpleNamespace()},
    "docs/start.md": _of_digits,
}
# Those that have tests of their own.
TESTED_ELSEWHERE = {
    "CONTRIBUTING.md",
    "README.md",
    "docs/for-pytorch-users.md",
    "docs/own-table.md",
    "docs/papers/regression_dd.md",
}


def test_the_code_of_every_page_is_tried():
    with_code = {pages.name_of(p) for p in pages.PAGES if pages.blocks(p, "python")}
    assert with_code <= READERS.keys() | TESTED_ELSEWHERE


@pytest.mark.parametrize("page", READERS)
def test_the_code_of_the_pages_runs(page, first_page, tmp_path, monkeypatch):
    shutil.copytree(first_page[0] / "distilled", tmp_path / "runs/mnist/distilled")
    monkeypatch.chdir(tmp_path)
    _run(pages.ROOT / page, READERS[page](), monkeypatch)


def _commands():
    """Every `python -m` of the pages, as words."""
    for page in pages.PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for found in re.findall(r"python -m (experiments\.[a-z_.]+[^`\n#]*)", text):
            yield pages.name_of(page), shlex.split(found)


COMMANDS = sorted({(page, tuple(words)) for page, words in _commands()})


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda each: str(each)[:70])
def test_commands_exist(page, words):
    module, *arguments = words
    assert _source(module) is not None, f"{page}: there is no {module}"
    given = dict(each.removeprefix("--").partition("=")[::2] for each in arguments)
    assert all(each.startswith("--") for each in arguments), page
    config = _config(given["config"]) if "config" in given else None
    for name in given:
        first, _, path = name.partition(".")
        assert first in _flags(module), f"{page}: {module} has no --{first}"
        value = config
        for part in filter(None, path.split(".")):
            assert value is not None and part in value, f"{page}: there is no --{name}"
            value = value[part]


def test_flags_of_the_table_of_commands_exist():
    page = pages.ROOT / "docs" / "reproducing.md"
    rows = re.findall(
        r"^\| `((?:dgkip|clp_dd|ssl_dd|regression_dd|compare|benchmarks)\.\w+)`"
        r"([^|]*)\|([^|]*)",
        page.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert len(rows) == 19
    for module, _, cell in rows:
        known = _flags(f"experiments.{module}")
        for flag in re.findall(r"--(\w+)", cell):
            assert flag in known or flag.removeprefix("no") in known, (module, flag)


def _config(value):
    """The configuration that `--config=file.py:arg` names, complete."""
    file, _, arg = value.partition(":")
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    assert (pages.ROOT / file).is_file()
    config = completion.as_config(module.get_config(arg or None))
    completion.complete(config)
    return config


def _source(module):
    path = pages.ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@functools.cache
def _flags(module):
    """Names of the flags that a command, or what it imports from here, defines."""
    file = _source(module)
    found = set()
    if file is None:
        return found
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "experiments"
        ):
            for name in (node.module, *(f"{node.module}.{n.name}" for n in node.names)):
                found |= _flags(name)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2].lower()
            if called.startswith(("define_", "add_argument")):
                texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
                found |= {str(text).lstrip("-") for text in texts[:1]}
    return found
