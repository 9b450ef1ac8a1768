"""A dataset card: what a distilled set is, for whoever finds it without its run.

The form is that of the Hugging Face Hub (huggingface.co/docs/hub/datasets-cards): a
`README.md` that begins with metadata in YAML.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddjax.evaluation.wording import number
from ddjax.runtime.description import (
    about_learning,
    about_origin,
    about_samples,
    about_terms,
    printable,
    terms_of_data,
    terms_of_weights,
)
from ddjax.runtime.render import Block, Code, Heading, Table, Text, to_markdown
from ddjax.runtime.run_report import (
    Report,
    certificate_blocks,
    score_blocks,
    to_load,
)
from ddjax.runtime.scores import samples_in_words
from ddjax.storage import atomic
from ddjax.synthetic.distilled import DistilledSet, decoded_shapes
from ddjax.synthetic.encoding import digest
from ddjax.synthetic.export import NUMPY_SNIPPET, PYTORCH_SNIPPET
from ddjax.synthetic.files import DOCUMENT

__all__ = ["CARD", "dataset_card", "metadata", "write_card"]

CARD = "README.md"
"""The card's name in the folder of a set."""

# The Hub's categories: less than a thousand samples, and on by powers of ten.
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")


def write_card(folder: str | os.PathLike[str], report: Report) -> Path:
    """Writes the card of a report into the folder of its set; gives the card's path.

    `synthetic.load` passes over it. An older one is replaced in one step.
    """
    path = Path(folder) / CARD
    atomic.sweep(path.parent, re.escape(path.name))
    atomic.replace_file(path, dataset_card(report).encode())
    return path


def dataset_card(report: Report) -> str:
    """The card as Markdown behind its metadata.

    Nothing of the machine is taken from the report, so that equal sets with equal
    scores have equal cards.
    """
    distilled = report.measured.distilled
    lines = [
        # JSON is YAML.
        f"{key}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in metadata(distilled).items()
    ]
    text = to_markdown(_title(distilled), _blocks(report), Path())
    return "\n".join(["---", *lines, "---", "", text])


def metadata(distilled: DistilledSet) -> dict[str, Any]:
    """What the Hub reads off a card; what is not known is left out.

    Returns:
      `pretty_name`, `tags`, `size_categories`, and where they are known `license` (that
      of the real data, unless weights with terms of their own took part),
      `task_categories` and `source_datasets`.
    """
    method = distilled.provenance.get("method")
    known: dict[str, Any] = {"pretty_name": _title(distilled)}
    data = terms_of_data(distilled)
    if data is not None and data[1].licence and not terms_of_weights(distilled):
        known["license"] = data[1].licence.lower()
    tags = ["dataset-distillation", "ddjax"]
    known["tags"] = [*tags, printable(str(method))] if method else tags
    powers = len(str(_count(distilled))) - 3
    known["size_categories"] = [_SIZES[min(max(powers, 0), len(_SIZES) - 1)]]
    task = _task(distilled)
    if task:
        known["task_categories"] = [task]
    if data is not None and data[1].page is not None:
        name = data[0].removeprefix("tfds:").partition(":")[0].partition("/")[0]
        known["source_datasets"] = [printable(name)]
    return known


def _blocks(report: Report) -> list[Block]:
    distilled, measured = report.measured.distilled, report.measured
    count, what = number(_count(distilled)), samples_in_words(distilled)
    blocks: list[Block] = [
        Text(
            f"{count} {what} that a learner trains on in place of "
            f"{number(measured.real_samples)} real ones, made by dataset distillation. "
            "What they are worth to a learner is measured below; to another learner it "
            "may be less."
        ),
        Heading("What is in it"),
        _facts(about_samples(distilled)),
        Heading("What a learner does with it"),
        _facts(about_learning(distilled)),
        Text(
            "The inputs are preprocessed. So are the real inputs that a model is to "
            "predict for: (x - mean) / std, and times the matrix whiten where there is "
            "one; all three come with the set."
        ),
        Heading("How it was evaluated"),
        *score_blocks(report),
    ]
    if distilled.certificate:
        blocks += certificate_blocks(distilled.certificate, DOCUMENT)
    blocks += [
        Heading("How to load it"),
        Code(to_load(".", "the folder of this card"), "python"),
        Text(
            "Without ddjax, from the files that its run left in exports/ beside this "
            "folder, or that ddjax export writes of it:"
        ),
        Code(NUMPY_SNIPPET.rstrip("\n"), "python"),
        Code(PYTORCH_SNIPPET.rstrip("\n"), "python"),
    ]
    if distilled.targets_kind == "regression" and what == "rows":
        blocks.append(Text("distilled.csv has the rows in natural units."))
    origin = [*about_origin(distilled)]
    if "commit" in report.run:
        origin.append(("commit", report.run["commit"]))
    return [
        *blocks,
        Heading("Where it comes from"),
        _facts([*origin, ("digest", digest(distilled))]),
        Heading("Terms of what it was made from"),
        _facts(about_terms(distilled)),
    ]


def _facts(rows: Iterable[tuple[str, str]]) -> Block:
    found: list[tuple[str, ...]] = [(name, printable(text)) for name, text in rows]
    return Table(("", ""), found, words=2) if found else Text("Nothing is known.")


def _title(distilled: DistilledSet) -> str:
    data, method = terms_of_data(distilled), distilled.provenance.get("method")
    name = f"{data[0]}, distilled" if data else "Distilled"
    by = f" by {method}" if method else ""
    what = samples_in_words(distilled)
    return printable(f"{name} to {number(_count(distilled))} {what}{by}")


def _count(distilled: DistilledSet) -> int:
    return decoded_shapes(distilled).inputs.shape[0]


def _task(distilled: DistilledSet) -> str | None:
    """One of the Hub's tasks, None where none is certain."""
    what, kind = samples_in_words(distilled), distilled.targets_kind
    if kind == "regression":
        return "tabular-regression" if what == "rows" else None
    if what != "images":
        return None
    extraction = kind == "representation"
    return "image-feature-extraction" if extraction else "image-classification"
