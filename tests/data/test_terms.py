"""The terms of data: every name has them, and the page says the same."""

import re
from pathlib import Path

import pytest

from ddjax import data
from ddjax.storage.terms import Terms

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def _rows(text: str) -> dict[str, str]:
    """Name of a data set -> the rest of its row in a table; addresses are links."""
    plain = re.sub(r"<(http[^>]*)>", r"\1", text)
    rows = re.findall(r"^\| `(\w+).*?` \| (.*) \|$", plain, re.MULTILINE)
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def test_the_page_says_what_the_library_says():
    files, terms = PAGE.read_text(encoding="utf-8").split("## Terms")
    assert _rows(files).keys() == data.SOURCES.keys()
    assert _rows(terms) == {
        name: reader.terms.in_words for name, reader in data.SOURCES.items()
    }


@pytest.mark.parametrize("name", data.SOURCES)
def test_every_data_set_states_its_terms(name):
    terms = data.SOURCES[name].terms
    assert terms.note or terms.page
    assert terms.licence is None or terms.page is not None
    assert terms.page is None or re.fullmatch(r"https?://\S+", terms.page)
    assert data.terms_of(name) == terms


def test_names_with_arguments():
    assert data.terms_of("tfds:mnist:3.0.1") == data.terms_of("mnist")
    cropped = data.terms_of("tfds:svhn_cropped")
    assert cropped.licence is None
    assert cropped.page == "https://www.tensorflow.org/datasets/catalog/svhn_cropped"
    yours = data.terms_of("folder:birds")
    assert yours == data.terms_of("arrays") and "user's own" in yours.in_words


def test_in_words():
    page = "https://example.org"
    assert Terms("MIT", page).in_words == f"MIT, see {page}"
    assert Terms(page=page, note="old").in_words == f"unknown: see {page} (old)"
