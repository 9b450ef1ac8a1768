import re
from types import SimpleNamespace

import pytest

from experiments import fill_tables, records
from experiments.dgkip import tables
from experiments.tables import caption
from tests.experiments import made_up


def transfer_record(seed, accuracy):
    rows = [
        {"distilled_with": "all real data", "evaluated_with": {"lr": {"test": 1.0}}}
    ]
    rows += [
        {
            "distilled_with": before,
            "per_class": 1,
            "evaluated_with": {"lr": {"test": accuracy}, "svm": {"test": 0.5}},
        }
        for before in ("lr", "svm")
    ]
    return made_up.record(
        f"dgkip/transfer/mnist_seed{seed}",
        {"rows": rows},
        config={"dataset": "mnist"},
        seed=seed,
        reduced="1 network",
    )


def test_mean_and_spread_over_seeds_beside_the_paper():
    table = tables.transfer([transfer_record(0, 0.98), transfer_record(1, 0.99)])
    row = table.splitlines()[2]
    assert "98.50 ± 0.71 | 99.97 ± 0.02 | 50.00 ± 0.00 | 99.76 ± 0.00" in row
    assert "Reduced: 1 network." in table and "seeds 0, 1" in table


def test_fill_replaces_what_is_between_markers():
    text = "a\n<!-- table: transfer -->\nold\n<!-- end -->\nb\n"
    found = [transfer_record(0, 0.98)]
    once = fill_tables.fill(text, found)
    assert "old" not in once and once.startswith("a\n") and once.endswith("\nb\n")
    assert fill_tables.fill(once, found) == once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: figure -->\n<!-- end -->", "'figure'.*known: .*transfer"),
        ("<!-- table: transfer -->\n", "not closed"),
    ],
)
def test_bad_markers(text, message):
    with pytest.raises(ValueError, match=message):
        fill_tables.fill(text, [transfer_record(0, 0.98)])


@pytest.fixture(scope="module")
def found():
    return records.read_records()


@pytest.mark.parametrize("page", fill_tables.pages(), ids=lambda page: page.name)
def test_the_pages_are_what_the_records_say(page, found):
    text = page.read_text(encoding="utf-8")
    assert fill_tables.fill(text, found) == text


def test_every_table_is_shown():
    text = "".join(page.read_text(encoding="utf-8") for page in fill_tables.pages())
    for name in fill_tables.TABLES:
        assert f"<!-- table: {name} -->" in text, name


def test_six_headlines(found):
    rows = fill_tables.TABLES["headlines"](found).splitlines()[2:]
    assert len(rows) == 6
    assert all(re.search(r"\d ± \d", row) for row in rows)


def test_check_names_the_pages_that_differ(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: transfer -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(fill_tables, "_ROOT", tmp_path)
    monkeypatch.setattr(fill_tables, "pages", lambda: [page])
    monkeypatch.setattr(
        fill_tables.records, "read_records", lambda: [transfer_record(0, 0.98)]
    )
    monkeypatch.setattr(fill_tables, "_CHECK", SimpleNamespace(value=True))
    with pytest.raises(SystemExit, match="page.md"):
        fill_tables.main(["fill_tables"])
    fill_tables._CHECK.value = False
    fill_tables.main(["fill_tables"])
    assert "wrote page.md" in capsys.readouterr().out and "98.00" in page.read_text()
    fill_tables._CHECK.value = True
    fill_tables.main(["fill_tables"])


def test_a_caption_names_every_machine():
    other = {"processor": "Q", "cores": 1, "devices": ["cuda:0"]}
    found = [made_up.record(name, {}) for name in "ab"]
    found.append(made_up.record("c", {}, hardware=other))
    said = caption(found)
    assert "cpu, 2 cores (P) and cuda:0, 1 core (Q); 3 min in all" in said
