"""`CITATION.cff`: of this version, and as the format wants it."""

import re

import yaml

import ddjax
from tests.pages import ROOT

TITLES = {
    "dgkip.md": "Generalized Kernel Inducing Points by Duality Gap",
    "clp_dd.md": "Closed-Form Linear-Probe Dataset Distillation",
    "regression_dd.md": "Toward Dataset Distillation for Regression Problems",
    "ssl_dd.md": "Boost Self-Supervised Dataset Distillation",
}


def _citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_it_is_of_this_version():
    found = _citation()
    assert found["version"] == ddjax.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.search(rf"^## \[{ddjax.__version__}\] - (\S+)$", changelog, re.M)
    assert released and found["date-released"] == released[1]


def test_it_is_valid():
    found = _citation()
    assert found["cff-version"] == "1.2.0" and found["type"] == "software"
    assert found["license"] == "Apache-2.0" and found["message"]
    for given in (found, *found["references"]):
        assert {"type", "title", "authors"} <= given.keys()
        for author in given["authors"]:
            person = {"given-names", "family-names"}
            assert author.keys() in ({"name"}, person) and all(author.values())


def test_it_names_the_papers():
    titles = [each["title"] for each in _citation()["references"]]
    pages = {p.name for p in (ROOT / "docs" / "papers").glob("*.md")} - {"index.md"}
    assert pages == TITLES.keys() and len(titles) == len(pages)
    for title in TITLES.values():
        assert any(each.startswith(title) for each in titles)
