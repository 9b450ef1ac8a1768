"""The official files, where they are (`DDJAX_DATA_DIR`)."""

import os
from pathlib import Path

import numpy as np
import pytest

from ddjax.data import cifar, idx, load

pytestmark = pytest.mark.real_data


def folder(name):
    path = Path(os.environ["DDJAX_DATA_DIR"]) / name
    if not path.is_dir():
        pytest.skip(f"no {name} under DDJAX_DATA_DIR")
    return path


@pytest.mark.parametrize(
    "name, read, first, first_test",
    [
        ("mnist", idx.read_mnist, [5, 0, 4, 1, 9], [7, 2, 1, 0, 4]),
        ("fashion_mnist", idx.read_fashion_mnist, [9, 0, 0, 3, 0], [9, 2, 1, 1, 6]),
        ("cifar10", cifar.read_cifar10, [6, 9, 9, 4, 1], [3, 8, 8, 0, 6]),
        ("cifar100", cifar.read_cifar100, [19, 29, 0, 11, 1], [49, 33, 72, 51, 71]),
    ],
)
def test_counts_and_first_labels(name, read, first, first_test):
    source = read(folder(name))
    is_cifar = name.startswith("cifar")
    assert source.train.count == (50_000 if is_cifar else 60_000)
    assert source.test.count == 10_000
    assert source.train.labels[:5].tolist() == first
    assert source.test.labels[:5].tolist() == first_test


@pytest.mark.parametrize(
    "name, mean, std",
    [
        ("mnist", [0.1307], [0.3081]),
        ("fashion_mnist", [0.2860], [0.3530]),
        ("cifar10", [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    ],
)
def test_statistics_are_the_published_ones(name, mean, std):
    folder(name)
    problem = load(name)
    np.testing.assert_allclose(problem.preprocessing.mean, mean, atol=1.5e-3)
    np.testing.assert_allclose(problem.preprocessing.std, std, atol=1.5e-3)
    sizes = [len(s.inputs) for s in (problem.train, problem.validation, problem.test)]
    total = 50_000 if name == "cifar10" else 60_000
    assert sizes == [0.9 * total, 0.1 * total, 10_000]


def test_mnist_zeros_and_ones():
    folder("mnist")
    problem = load("mnist", classes=(0, 1))
    assert problem.class_names == ("0", "1")
    assert len(problem.train.inputs) + len(problem.validation.inputs) == 12_665
    assert len(problem.test.inputs) == 2_115


def test_imagenette():
    folder("imagenette")
    problem = load("folder:imagenette", image_size=32, limit=300)
    assert problem.class_names[0] == "n01440764" and problem.classes == 10
    assert problem.test.inputs.shape == (300, 32, 32, 3)
