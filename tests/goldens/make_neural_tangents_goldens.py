"""Writes `neural_tangents.npz` and `neural_tangents.json`: kernels to compare with.

They come from neural-tangents itself, unmodified and without this library, on the last
jax on which its analytic kernels run, in float64. To make them again:

    python3.11 -m venv goldens && goldens/bin/pip install jax==0.5.3 jaxlib==0.5.3 \
        neural-tangents==0.6.5
    goldens/bin/python tests/goldens/make_neural_tangents_goldens.py
"""

import json
import platform
from pathlib import Path

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
from neural_tangents import stax

FOLDER = Path(__file__).parent
COUNTS = (4, 6)
CASES = {
    "fully_connected": {"kind": "fully_connected", "depth": 3, "shape": [7]},
    "fully_connected_unbiased": {
        "kind": "fully_connected",
        "depth": 1,
        "b_std": 0.0,
        "shape": [2, 3, 1],
    },
    "pooled_flatten": {"kind": "convolutional", "depth": 2, "shape": [8, 8, 3]},
    "pooled_global": {
        "kind": "convolutional",
        "depth": 2,
        "readout": "global_average",
        "w_std": 1.1,
        "b_std": 0.3,
        "shape": [5, 7, 1],
    },
    "flatten": {
        "kind": "convolutional",
        "depth": 3,
        "pooling": "none",
        "shape": [5, 4, 2],
    },
    "global": {
        "kind": "convolutional",
        "depth": 2,
        "pooling": "none",
        "readout": "global_average",
        "shape": [3, 4, 1],
    },
}
DEFAULTS = {"w_std": 2**0.5, "b_std": 0.1, "pooling": "average", "readout": "flatten"}


def kernel_fn(case, readout):
    settings = {"W_std": case["w_std"], "b_std": case["b_std"]}
    layers = []
    for _ in range(case["depth"]):
        if case["kind"] == "fully_connected":
            layers += [stax.Dense(1, **settings), stax.Relu()]
            continue
        layers += [stax.Conv(1, (3, 3), padding="SAME", **settings), stax.Relu()]
        if case["pooling"] == "average":
            layers.append(stax.AvgPool((2, 2), strides=(2, 2)))
    if case["kind"] == "convolutional":
        flat = case["readout"] == "flatten"
        layers.append(stax.Flatten() if flat else stax.GlobalAvgPool())
    if readout:
        layers.append(stax.Dense(1, **settings))
    return stax.serial(*layers)[2]


def values(case, x1, x2, weights):
    kernel = kernel_fn(case, readout=True)
    hidden = kernel_fn(case, readout=False)
    batched = nt.batch(kernel, batch_size=2)
    found = {}
    for kind in ("nngp", "ntk"):

        def weighted(x1, x2, kind=kind):
            return jnp.sum(weights * kernel(x1, x2, kind))

        found[kind] = kernel(x1, x2, kind)
        found[f"{kind}_hidden"] = hidden(x1, x2, kind)
        found[f"{kind}_batch"] = batched(x1, x2, kind)
        gradients = jax.grad(weighted, argnums=(0, 1))(x1, x2)
        found[f"{kind}_gradient_1"], found[f"{kind}_gradient_2"] = gradients
    return found


def main():
    jax.config.update("jax_enable_x64", True)
    arrays, cases = {}, {}
    for seed, (name, case) in enumerate(CASES.items()):
        case = cases[name] = DEFAULTS | case
        draw = np.random.default_rng(seed).normal
        x1, x2 = (draw(size=(count, *case["shape"])) for count in COUNTS)
        weights = draw(size=COUNTS)
        if case["kind"] == "fully_connected":
            flat = [x.reshape(len(x), -1) for x in (x1, x2)]
        else:
            flat = [x1, x2]
        found = values(case, jnp.asarray(flat[0]), jnp.asarray(flat[1]), weights)
        found |= {"x1": x1, "x2": x2, "weights": weights}
        for key, value in found.items():
            arrays[f"{name}/{key}"] = np.asarray(value)
            assert arrays[f"{name}/{key}"].dtype == np.float64
        print(name)
    np.savez_compressed(FOLDER / "neural_tangents.npz", **arrays)
    made_with = {
        "neural_tangents": nt.__version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    text = json.dumps({"made_with": made_with, "cases": cases}, indent=2)
    (FOLDER / "neural_tangents.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
