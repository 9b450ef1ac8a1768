"""The feature cache: right, resumed after a kill, and never used when damaged."""

import json
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from ddjax.models.encoders.base import EncoderError
from ddjax.models.encoders.cache import cached_features
from tests.models.encoders.tiny import WIDTH, images, linear_encoder


def build(directory, inputs, *, encoder=None, **settings):
    settings = {"block": 4, "shard_rows": 8, "fingerprint": "tiny"} | settings
    return cached_features(
        encoder or linear_encoder(),
        inputs,
        directory=directory,
        verbose=False,
        **settings,
    )


def expected(pixels):
    weights = np.asarray(linear_encoder().params["weights"])
    scaled = pixels.astype(np.float32) / 255 if pixels.dtype == np.uint8 else pixels
    return scaled.reshape(len(pixels), -1) @ weights


def only_folder(directory):
    (folder,) = directory.iterdir()
    return folder


def refuse(*_):
    raise AssertionError("computed again")


def unused_encoder():
    """Its key is that of `linear_encoder`, but it cannot compute."""
    return linear_encoder()._replace(apply=refuse)


@pytest.mark.parametrize("n", [1, 4, 8, 21])
def test_features_are_those_of_the_encoder(tmp_path, n):
    found = build(tmp_path, images(n))
    assert found.shape == (n, WIDTH) and found.dtype == np.float32
    assert isinstance(found, np.memmap) and not found.flags.writeable
    np.testing.assert_allclose(found, expected(images(n)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        np.load(only_folder(tmp_path) / "features.npy"), found
    )


def test_floats_memory_maps_and_blocks_give_the_same(tmp_path):
    pixels = images(21)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    floats = pixels.astype(np.float32) / 255
    blocks = (pixels[i : i + 5] for i in range(0, 21, 5))
    wanted = np.asarray(build(tmp_path / "a", pixels))
    for i, (inputs, more) in enumerate(
        [
            (mapped, {}),
            (floats, {}),
            (jax.numpy.asarray(floats), {}),
            (blocks, {"count": 21}),
        ]
    ):
        found = build(tmp_path / f"other{i}", inputs, **more)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_compiled_once_whatever_the_last_block(tmp_path):
    traces = []
    encoder = linear_encoder(count=lambda: traces.append(1))
    build(tmp_path, images(21), encoder=encoder)
    assert len(traces) == 1


def test_caches_of_earlier_versions_are_found(tmp_path):
    build(tmp_path / "a", images(21))
    assert only_folder(tmp_path / "a").name == "2ea3ca6ce7abf8855949fd86c919f846"


def test_features_of_an_encoder_in_float64_are_float64(tmp_path):
    encoder = linear_encoder()
    build(tmp_path, images(21))
    with jax.enable_x64(True):
        weights = encoder.params["weights"].astype("float64")
        double = encoder._replace(params={"weights": weights})
        found = build(tmp_path / "uint8", images(21), encoder=double)
        # Nothing is rounded to float32 on the way.
        pixels = images(21) / 255
        exact = pixels.reshape(21, -1) @ np.asarray(weights)
        np.testing.assert_allclose(found, exact, rtol=1e-13)
        found = build(tmp_path / "float64", pixels, encoder=double)
        np.testing.assert_allclose(found, exact, rtol=1e-13)
    assert found.dtype == np.float64


def test_anything_else_is_another_cache(tmp_path):
    build(tmp_path, images(21))
    others = [
        {"encoder": linear_encoder(seed=1)},
        {"encoder": linear_encoder(option=1)},
        {"fingerprint": "other"},
        {"shard_rows": 4},
    ]
    for number, settings in enumerate(others):
        build(tmp_path, images(21), **settings)
        assert len(list(tmp_path.iterdir())) == number + 2, settings
    build(tmp_path, images(20))
    build(tmp_path, images(21).astype(np.float32) / 255)
    assert len(list(tmp_path.iterdir())) == len(others) + 3


def test_what_only_describes_the_weights_is_not_part_of_the_key(tmp_path):
    first = np.asarray(build(tmp_path, images(21)))
    told = {"option": 0, "licence": "MIT", "file": "x.safetensors"}
    same = unused_encoder()._replace(source=told)
    np.testing.assert_array_equal(build(tmp_path, images(21), encoder=same), first)


def test_a_killed_build_goes_on_where_it_was(tmp_path):
    command = [sys.executable, "-m", "tests.models.encoders.build_script", tmp_path]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    try:
        for line in killed.stdout:
            # Blocks 0 ... 16 are two finished shards and the start of the third.
            if int(line) == 20:
                break
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    finally:
        killed.kill()
        killed.wait()
        killed.stdout.close()
    manifest = json.loads((only_folder(tmp_path) / "manifest.json").read_bytes())
    assert sorted(map(int, manifest["shards"])) == [0, 1]
    asked = []
    blocks = (images(40)[start : start + 4] for start in range(0, 40, 4))

    def apply(params, pixels):
        jax.debug.callback(lambda _: asked.append(1), pixels[0, 0, 0, 0])
        return linear_encoder().apply(params, pixels)

    encoder = linear_encoder()._replace(apply=apply)
    found = build(tmp_path, blocks, count=40, encoder=encoder)
    jax.effects_barrier()
    # 24 rows were left, in blocks of 4.
    assert len(asked) == 6
    np.testing.assert_allclose(found, expected(images(40)), rtol=1e-5, atol=1e-6)


def test_what_is_damaged_is_computed_again(tmp_path):
    wanted = np.array(build(tmp_path, images(21)))
    path = only_folder(tmp_path) / "features.npy"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.warns(UserWarning, match="rows 16 to 20 are not what was written"):
        found = build(tmp_path, images(21))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("inputs", "settings", "message"),
    [
        (images(4)[..., :1], {}, r"\(1, 2, 3, 1\).*RGB"),
        (images(4)[0], {}, "RGB"),
        (images(4).astype(np.int32), {}, "int32"),
        (images(4).astype(np.float32), {}, "preprocessing='none'"),
        (images(4) / np.float32(255) * np.nan, {}, "image 0"),
        (images(4), {"count": 3}, "count=3"),
        (iter([images(4)]), {}, "count=None"),
        (iter([]), {"count": 4}, "no blocks"),
        (iter([images(4)]), {"count": 5}, "hold 4 images"),
        (iter([images(4)]), {"count": 3}, "more images"),
        (images(4), {"block": 0}, "block=0"),
    ],
)
def test_mistakes_are_named(tmp_path, inputs, settings, message):
    with pytest.raises(EncoderError, match=message):
        build(tmp_path, inputs, **settings)


def test_features_that_are_not_finite_name_the_image(tmp_path):
    def apply(params, pixels):
        return jax.numpy.log(0.5 - pixels[:, :, 0, 0]) @ np.ones((2, WIDTH), np.float32)

    floats = np.full((6, 2, 3, 3), 0.2, np.float32)
    floats[5, 1, 0, 0] = 0.9
    with pytest.raises(EncoderError, match="image 5 under 'linear' are not finite"):
        build(tmp_path, floats, encoder=linear_encoder()._replace(apply=apply))
