"""Tests of the picture of a distilled set."""

import numpy as np
import pytest
from PIL import Image

from ddjax import synthetic
from ddjax.synthetic import fonts
from tests.synthetic.problems import NONE, changed, distilled_set

BLUE = (38, 103, 172)
WIDE = {"targets": np.eye(2, 60, dtype=np.float32), "targets_kind": "representation"}


def _flat(classes: int, each: int, **changes) -> synthetic.DistilledSet:
    """Images of one colour each, so that they can be found in a picture."""
    m = classes * each
    colours = np.tile(np.array([0, 50, 200], np.float32), (m, 1))
    colours[:, 0] = np.arange(m)
    inputs = np.broadcast_to(colours[:, None, None] / 255, (m, 8, 8, 3))
    distilled = distilled_set(classes=classes, each=each, shape=(8, 8, 3))
    return changed(distilled, inputs=np.array(inputs), preprocessing=NONE, **changes)


def _boxes(picture: np.ndarray, m: int) -> list[tuple[int, ...]]:
    """Left, top, right and bottom of each colour's tile."""
    red = np.where((picture[..., 1:] == (50, 200)).all(axis=-1), picture[..., 0], 255)
    boxes = []
    for i in range(m):
        y, x = np.nonzero(red == i)
        boxes.append((x.min(), y.min(), x.max(), y.max()))
    return boxes


def test_a_row_a_class_and_a_column_a_sample():
    picture = synthetic.draw(_flat(3, 4))
    assert picture.dtype == np.uint8
    boxes = np.array(_boxes(picture, 12)).reshape(3, 4, 4)
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    assert (right - left == 95).all() and (bottom - top == 95).all()
    assert (left == left[0]).all() and (np.diff(left[0]) > 95).all()
    assert (top == top[:, :1]).all() and (np.diff(top[:, 0]) > 95).all()
    # Names stand at the left, one to each row.
    for row in range(3):
        name = picture[top[row, 0] : bottom[row, 0], : left[0, 0] - 2]
        assert (name < 128).any()


def test_rows_follow_the_labels_not_the_order():
    labels = np.array([1, 0, 1, 0], np.int32)
    picture = synthetic.draw(_flat(2, 2, labels=labels))
    tops = [box[1] for box in _boxes(picture, 4)]
    assert tops[1] == tops[3] < tops[0] == tops[2]
    margins = np.array([1.0, -1.0, 0.5, -0.5], np.float32)
    unlabelled = _flat(2, 2, labels=None, targets=margins, targets_kind="margin")
    np.testing.assert_array_equal(synthetic.draw(unlabelled), picture)


@pytest.mark.parametrize("shape", [(4, 4, 1), (5, 3, 3)])
def test_pixels_are_enlarged_without_blur(shape):
    distilled = distilled_set(classes=2, each=1, shape=shape, kind="zca")
    picture = synthetic.draw(distilled)
    natural = np.asarray(synthetic.natural_inputs(distilled), np.float64)[0]
    small = np.round(255 * np.clip(natural, 0, 1)).astype(np.uint8)
    scale = 96 // max(shape[:2])
    tile = np.broadcast_to(small, (*shape[:2], 3)).repeat(scale, 0).repeat(scale, 1)
    assert any(
        (picture[y : y + len(tile), x : x + tile.shape[1]] == tile).all()
        for y, x in zip(*np.nonzero((picture == tile[0, 0]).all(axis=-1)), strict=True)
        if y + len(tile) <= len(picture) and x + tile.shape[1] <= picture.shape[1]
    )


def test_values_beyond_the_limits_are_clipped():
    distilled = _flat(2, 1)
    wide = changed(distilled, inputs=distilled.stored["inputs"] * 255)
    np.testing.assert_array_equal(
        synthetic.draw(wide, limits=(0.0, 255.0)), synthetic.draw(distilled)
    )
    far = np.array([-50.0, 50.0], np.float32).reshape(2, 1, 1, 1)
    far = changed(distilled, inputs=np.broadcast_to(far, (2, 8, 8, 1)))
    shades = np.unique(synthetic.draw(far).reshape(-1, 3)[:, 0])
    assert {0, 255} <= set(shades)
    with pytest.raises(ValueError, match="the first must be below the second"):
        synthetic.draw(distilled, limits=(1.0, 1.0))


@pytest.mark.parametrize(
    ("classes", "each"), [(10, 1), (2, 50), (30, 1), (30, 3), (1, 1)]
)
def test_pictures_stay_in_proportion(classes, each):
    picture = synthetic.draw(_flat(classes, each))
    height, width = picture.shape[:2]
    assert 0.4 < width / height < 7
    assert width < 2000
    boxes = np.array(_boxes(picture, classes * each))
    assert len({tuple(box) for box in boxes}) == classes * each
    assert (boxes[:, 2] < width).all() and (boxes[:, 3] < height).all()


def test_without_classes_samples_follow_each_other():
    distilled = _flat(3, 4, labels=None, class_names=None, targets_kind="regression")
    picture = synthetic.draw(distilled, annotate=True)
    boxes = _boxes(picture, 12)
    assert len({box[1] for box in boxes}) in (2, 3)
    assert boxes[0][0] < 20


def test_targets_are_drawn_to_scale():
    targets = np.array([[1.0, 0.0], [0.0, 0.5]], np.float32)
    distilled = _flat(2, 1, targets=targets)
    plain = synthetic.draw(distilled)
    picture = synthetic.draw(distilled, annotate=True)
    assert picture.shape[0] > plain.shape[0]
    heights = []
    for box in _boxes(picture, 2):
        strip = picture[box[3] + 2 : box[3] + 34, box[0] : box[2]]
        heights.append((strip == BLUE).all(axis=-1).any(axis=1).sum())
    assert heights[0] > 1.6 * heights[1] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": np.array([-0.5, 1.25], np.float32), "targets_kind": "margin"},
        {"targets": np.zeros((2, 1), np.float32), "targets_kind": "regression"},
        {"targets": np.zeros((2, 2), np.float32)},
        {**WIDE, "labels": None},
        WIDE,
    ],
)
def test_every_kind_of_target_can_be_drawn(changes):
    distilled = _flat(2, 1, **changes)
    plain = synthetic.draw(distilled)
    picture = synthetic.draw(distilled, annotate=True)
    assert (picture < 128).sum() > (plain < 128).sum()


def test_titles_and_long_names_fit():
    plain = _flat(2, 1)
    long = plain._replace(class_names=("a", "n01440764 tench, Tinca tinca" * 9))
    assert synthetic.draw(long).shape[1] < 450
    titled = synthetic.draw(plain, title="A title that is wider than the picture is")
    assert titled.shape[1] > synthetic.draw(plain).shape[1]
    assert (titled[:, -3:] == 255).all()


def test_png_holds_the_picture(tmp_path):
    distilled = distilled_set(shape=(6, 6, 3))
    path = synthetic.to_png(tmp_path / "new" / "grid.png", distilled, annotate=True)
    with Image.open(path) as image:
        assert image.format == "PNG"
        found = np.asarray(image)
    np.testing.assert_array_equal(found, synthetic.draw(distilled, annotate=True))


@pytest.mark.parametrize("shape", [(64,), (8, 8, 2), (8, 8), (2, 2, 2, 3)])
def test_what_is_no_image_is_refused(tmp_path, shape):
    distilled = distilled_set(shape=shape)
    with pytest.raises(ValueError, match=r"are no images; expected \(h, w, 1\)"):
        synthetic.draw(distilled)
    with pytest.raises(synthetic.DistilledSetError, match="a.png: cannot be drawn"):
        synthetic.to_png(tmp_path / "a.png", distilled)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def installed(monkeypatch):
    """A machine with one font, which has two characters of Chinese."""
    own = fonts._own()
    glyphs = {own: frozenset(range(32, 127)), "cjk.ttf": frozenset(map(ord, "猫犬 "))}
    monkeypatch.setattr(fonts, "_installed", lambda: ("cjk.ttf",))
    monkeypatch.setattr(fonts, "_characters", glyphs.__getitem__)
    fonts._font_with_all.cache_clear()
    yield own
    fonts._font_with_all.cache_clear()


def test_a_font_is_found_that_has_every_character(installed):
    assert fonts.font_file("cat") == installed
    assert fonts.font_file("猫 犬") == "cjk.ttf"
    assert fonts.can_draw("猫 犬") and not fonts.can_draw("猫 鳥")
    assert fonts.font_file("猫 鳥") == installed
    with pytest.warns(UserWarning) as warned:
        shown = fonts.drawable(["a\ncat", "猫", "鳥", "魚"], ["0", "1", "2", "3"])
    assert shown == ["a cat", "猫", "2", "3"]
    (message,) = (str(each.message) for each in warned)
    assert "can draw '鳥' (nor 1 other names); pictures say '2' instead" in message


def test_names_that_no_font_has_are_numbers_not_boxes(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", tuple)
    fonts._font_with_all.cache_clear()
    with pytest.warns(UserWarning, match="no installed font can draw '猫'"):
        picture = synthetic.draw(_flat(2, 1, class_names=("猫", "class 1")))
    fonts._font_with_all.cache_clear()
    expected = synthetic.draw(_flat(2, 1, class_names=("class 0", "class 1")))
    np.testing.assert_array_equal(picture, expected)
