"""Reads lowered programs: at which precision a function multiplies matrices.

`assert_products_are_exact(function, *args)` lowers a function to StableHLO, as jax
hands it to the compiler of any device, and reads every matrix product in it. The
programs are lowered with `jax_default_matmul_precision` at bfloat16, so that a product
which names no precision cannot pass on a setting of the machine. Nothing is compiled or
run.
"""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Product", "assert_products_are_exact", "products"]

_OPERATION = re.compile(r"stablehlo\.(dot_general|dot|convolution)\b")
_PRECISION = re.compile(r"precision(?:_config)? = \[([^\]]*)\]")
_OPERANDS = re.compile(r": \(tensor<([^>]*)>, tensor<([^>]*)>\)")
_FLOATING = re.compile(r"(?:^|x)(?:f\d+|bf16)")
_EXACT = {"HIGHEST"}


class Product(NamedTuple):
    """A product of floating-point arrays in a lowered program."""

    # `dot_general`, `dot` or `convolution`.
    operation: str
    # Of either operand: `HIGHEST` where it is exact; empty where it is left open.
    precision: tuple[str, ...]
    # Shapes and types of both: `3x4xf32`.
    operands: tuple[str, str]


def products(function: Any, *args: Any) -> list[Product]:
    """Every floating-point product in the program of a jittable `function(*args)`.

    Bodies of loops, branches and inner functions are part of the program. Products of
    integers have no precision and are left out.
    """
    jitted = function if hasattr(function, "lower") else jax.jit(function)
    with jax.default_matmul_precision("bfloat16"):
        text = jitted.lower(*args).as_text()
    found = []
    for line in text.splitlines():
        operation = _OPERATION.search(line)
        if operation is None:
            continue
        operands = _OPERANDS.search(line)
        assert operands is not None, f"a product without types: {line.strip()}"
        if not all(_FLOATING.search(operand) for operand in operands.groups()):
            continue
        stated = _PRECISION.search(line)
        names = re.findall(r"HIGHEST|HIGH|DEFAULT", stated.group(1) if stated else "")
        found.append(
            Product(operation.group(1), tuple(names), (operands[1], operands[2]))
        )
    return found


def _floating(tree: Any) -> bool:
    leaves = jax.tree.leaves(tree)
    return bool(leaves) and all(
        jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.floating)
        for leaf in leaves
    )


def _scalar(tree: Any) -> jax.Array:
    """A scalar with a gradient that reaches every floating-point leaf, unevenly."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if _floating(leaf)]
    # Sines, so that no cotangent is a constant that lets a product fold away.
    sums = [jnp.sum(jnp.sin(leaf)) for leaf in leaves]
    return functools.reduce(lambda a, b: a + b.astype(a.dtype), sums)


def assert_products_are_exact(function: Any, *args: Any) -> None:
    """Every matrix product of a function, and of its gradient, is at full precision.

    Convolutions follow the default policy (`ddjax.kernels.precision`) and do not count.

    Args:
      function: jittable, from arrays or trees of them to arrays or trees of them.
      args: what it is lowered for; the gradient of the sum of sines of all results is
        taken in those whose leaves are all floating-point.

    Raises:
      AssertionError: a product at less than full precision, which is named, or no
        product at all: such a test would show nothing.
    """
    floating = tuple(i for i, arg in enumerate(args) if _floating(arg))
    gradient = jax.value_and_grad(
        lambda *arrays: _scalar(function(*arrays)), argnums=floating
    )
    read = 0
    for name, program in (("the value", function), ("value and gradient", gradient)):
        found = [p for p in products(program, *args) if p.operation != "convolution"]
        bad = [p for p in found if set(p.precision) != _EXACT]
        listed = "\n".join(
            f"  {p.operation} of {' and '.join(p.operands)}: {p.precision or 'open'}"
            for p in bad
        )
        assert not bad, (
            f"{len(bad)} of {len(found)} products in the program of {name} are not at "
            f"the highest precision:\n{listed}"
        )
        read += len(found)
    assert read, "no matrix product to read in the program"
