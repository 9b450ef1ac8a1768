"""The encoders against the libraries themselves, where these are installed."""

import importlib
import importlib.util
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ddjax.models import encoders
from tests.goldens.encoder_weights import cotangents, images
from tests.models.test_encoders_parity import CASES, GOLDENS

NEEDED = ("torch", "timm", "transformers", "efficientnet_lite_pytorch")
FOLDER = Path(__file__).parent.parent / "goldens"
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED),
        reason=f"needs {', '.join(NEEDED)}",
    ),
]


@pytest.fixture
def maker(monkeypatch):
    """The script that made the goldens."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("make_encoder_goldens")


@pytest.mark.parametrize("name", CASES)
def test_the_goldens_are_what_the_libraries_give(maker, name):
    features, gradients, _ = maker.run(*maker.CASES[name])
    for found, kind in ((features, "features"), (gradients, "gradients")):
        golden = GOLDENS[f"{name}/{kind}"]
        assert np.abs(found - golden).max() <= 1e-10 * np.abs(golden).max()


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet_lite0"])
def test_real_weights(maker, name):
    entry = encoders.ENTRIES[name]
    path = Path(os.environ["DDJAX_DATA_DIR"]) / "encoders" / entry.file
    if name == "mobilenetv2":
        stages = [stage[:4] for stage in entry.spec.stages]
        model = maker.mobilenetv2(entry.spec.stem, stages, entry.spec.head)
    else:
        from efficientnet_lite_pytorch import EfficientNet

        model = EfficientNet.from_name("efficientnet-lite0")
    state = {k: maker.torch.tensor(v) for k, v in load_file(path).items()}
    found = model.load_state_dict(state, strict=False)
    assert not found.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in found.missing_keys)
    pixels = images(2, 64, 96)
    features, gradients = maker.features_and_gradients(
        model.double().eval(),
        maker.CASES[name][1],
        (pixels - np.array(entry.mean)) / np.array(entry.std),
    )
    with jax.enable_x64(True):
        encoder = encoders.load(name, weights=path, dtype="float64")

        @jax.jit
        def both(params, pixels, cotangents):
            features, pull = jax.vjp(lambda x: encoder.apply(params, x), pixels)
            return features, pull(cotangents)[0]

        weights = jnp.asarray(cotangents(2, encoder.width))
        ours = both(encoder.params, jnp.asarray(pixels), weights)
    for value, wanted in zip(ours, (features, gradients / entry.std), strict=True):
        error = np.abs(np.asarray(value) - wanted).max()
        assert error <= 1e-10 * np.abs(wanted).max()
