"""The notebooks: one a paper, pinned, and saved with the outputs of the code they have.

That they run is for `make colabs`.
"""

import ast
import configparser
import importlib.util
import re

import nbformat
import pytest

from tests.pages import ROOT

LARGEST = 1_000_000
PATHS = sorted((ROOT / "colabs").glob("*.ipynb"))
REPOSITORY = "https://github.com/someone/ddjax"


def _script(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


colabs = _script("colabs_script", ROOT / ".ci" / "colabs.py")


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def _code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_paper_has_its_notebook():
    papers = {path.stem for path in (ROOT / "docs" / "papers").glob("*.md")}
    assert {path.stem for path in PATHS} == papers - {"index"}


def test_the_page_and_the_menu_list_every_notebook(path):
    place = f"../colabs/{path.name}"
    assert f"({place})" in (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert f": {place}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_it_has_the_outputs_of_the_code_that_it_has(notebook, path):
    saved = notebook.metadata.get("saved_outputs", {})
    assert saved.get("code_sha256") == colabs.code_digest(notebook), (
        f"the outputs are of other code: make colabs COLABS_ARGS='--save {path.stem}'"
    )
    assert saved["mode"] == "full"


def test_it_was_executed_from_the_first_cell_to_the_last(notebook):
    cells = _code(notebook)
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    colabs.check_outputs(notebook)
    assert [o for o in outputs if "image/png" in o.get("data", {})]


def test_its_shared_cells_are_those_that_the_script_writes(notebook, path):
    written = colabs.with_shared_cells(notebook, path.stem, colabs.project_url())
    found = [(cell.id, cell.source) for cell in notebook.cells]
    assert found == [(cell.id, cell.source) for cell in written.cells], (
        "make colabs COLABS_ARGS=--write"
    )


def test_it_is_small_and_names_no_place_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert not re.search(r"/(home|root|tmp|Users|content)/", text)


def test_everything_that_is_needed_is_pinned_as_locked():
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    needed = parser["options"]["install_requires"].split()
    lock = (ROOT / ".ci" / "constraints-py312.txt").read_text(encoding="utf-8")
    code = colabs.install_code(None)
    pinned = re.findall(r"(\S+)==(\S+)", code)
    assert [name for name, _ in pinned] == [re.split("[<>=]", n)[0] for n in needed]
    for name, version in pinned:
        pattern = re.sub("[-_]", "[-_]", re.escape(name).replace(r"\-", "-"))
        assert re.search(f"^{pattern}=={re.escape(version)}$", lock, re.M | re.I), name


def test_the_address_is_set_in_one_place(monkeypatch):
    assert colabs.source(None)[0] == "."
    assert colabs.badge(None, "dgkip") == ""
    tag = f"v{colabs.version()}"
    assert colabs.source(REPOSITORY)[0] == f"git+{REPOSITORY}@{tag}"
    link = "https://colab.research.google.com/github/someone/ddjax/blob"
    assert f"({link}/{tag}/colabs/dgkip.ipynb)" in colabs.badge(REPOSITORY, "dgkip")
    assert colabs.badge("https://gitlab.com/someone/ddjax", "dgkip") == ""
    monkeypatch.setattr(colabs, "_setup", lambda: {"metadata": {"url": REPOSITORY}})
    assert colabs.project_url() == REPOSITORY


def test_installing_is_python_but_for_pips_line():
    code = colabs.install_code(REPOSITORY).replace("\\\n", " ")
    assert re.search(r"^    %pip install -q \{DDJAX\} ", code, re.MULTILINE)
    ast.parse(re.sub(r"%pip .*", "pass", code))


def _made(*sources):
    cells = [nbformat.v4.new_markdown_cell("# Title", id="cell0")]
    for i, source in enumerate(sources, 1):
        cells.append(nbformat.v4.new_code_cell(source, id=f"cell{i}"))
    return nbformat.v4.new_notebook(cells=cells)


def _stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def test_shared_cells_follow_the_title_once():
    once = colabs.with_shared_cells(_made("1 + 1"), "made", None)
    twice = colabs.with_shared_cells(once, "made", REPOSITORY)
    assert [c.id for c in once.cells] == ["cell0", "about", "install", "cell1"]
    assert [c.id for c in twice.cells] == [c.id for c in once.cells]
    assert "no saved outputs" in once.cells[1].source
    assert "colab-badge" in twice.cells[1].source


def test_the_digest_is_of_the_code_and_not_of_what_it_showed():
    first, other = _made("1 + 1", "2"), _made("1 + 1", "3")
    digest = colabs.code_digest(first)
    assert digest != colabs.code_digest(other)
    first.cells[1].outputs = [_stream("2")]
    assert colabs.code_digest(first) == digest
    # Versions that are locked anew leave the outputs what they are.
    assert colabs.code_digest(colabs.with_shared_cells(first, "made", None)) == digest


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (_stream("careful\n", "stderr"), "cell1 warns: careful"),
        (_stream(f"{ROOT}/colabs"), "an output of cell cell1 names"),
    ],
)
def test_outputs_with_warnings_or_places_are_refused(output, message):
    made = _made("1")
    made.cells[1].outputs = [output]
    with pytest.raises(ValueError, match=message):
        colabs.check_outputs(made)


def test_progress_bars_are_no_warnings():
    made = _made("1")
    bars = "\rfeatures:   0%|    | 0/2\rfeatures: 100%|####| 2/2\n"
    made.cells[1].outputs = [_stream("2\n"), _stream(bars, "stderr")]
    colabs.drop_progress_bars(made)
    assert [o.text for o in made.cells[1].outputs] == ["2\n"]
    made.cells[1].outputs = [_stream(f"careful\n{bars}", "stderr")]
    colabs.drop_progress_bars(made)
    with pytest.raises(ValueError, match="warns: careful$"):
        colabs.check_outputs(made)


def test_a_notebook_becomes_a_page():
    pytest.importorskip("latex2mathml")
    page = _script("notebook_pages", ROOT / "docs" / "notebook_pages.py")
    made = _made("show()")
    made.cells[0].source = (
        f"# Title\n\n{colabs.badge(REPOSITORY, 'made')}"
        "For `cost $1 or $2` and $x^2$:\n\n$$\\lambda\n> 0$$"
    )
    picture = nbformat.v4.new_output("display_data", data={"image/png": "iVBO\nRw=="})
    value = nbformat.v4.new_output("execute_result", data={"text/plain": "(3, 4)"})
    made.cells[1].outputs = [_stream("96.1 %\n"), picture, value]
    text = page.as_markdown(nbformat.writes(made))
    assert text.startswith("# Title\n\n[Open in Colab](https://colab.research")
    assert "colab-badge" not in text
    assert "`cost $1 or $2`" in text
    assert text.count("<math") == 2 and 'class="formula"' in text
    blocks = text[text.index("```python") :]
    assert blocks == (
        "```python\nshow()\n```\n\n```text\n96.1 %\n```\n\n"
        "![Output of the cell above](data:image/png;base64,iVBORw==)\n\n"
        "```text\n(3, 4)\n```\n"
    )
