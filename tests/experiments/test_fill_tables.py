from pathlib import Path

import pytest

from experiments import fill_tables, records
from experiments.dgkip import tables

README = Path(__file__).parents[2] / "README.md"


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
    return {
        "name": f"dgkip/transfer/mnist_seed{seed}",
        "config": {"dataset": "mnist"},
        "seed": seed,
        "scale": "tiny",
        "reduced": "1 network",
        "hardware": {"processor": "P", "cores": 2, "devices": ["cpu"]},
        "wall_seconds": 60.0,
        "results": {"rows": rows},
    }


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
        ("<!-- table: figure -->\n<!-- end -->", "'figure'.*known: transfer"),
        ("<!-- table: transfer -->\n", "not closed"),
    ],
)
def test_bad_markers(text, message):
    with pytest.raises(ValueError, match=message):
        fill_tables.fill(text, [transfer_record(0, 0.98)])


def test_readme_is_what_the_records_say():
    text = README.read_text()
    assert fill_tables.fill(text, records.read_records()) == text
