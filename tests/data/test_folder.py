import os
import socket
import warnings

import numpy as np
import pytest
from PIL import Image

from ddjax.data import DataError, MissingDataError, folder, load
from tests.data.files import write_images


def one(root, index=0, **options):
    return folder.read(root, **options).train.read(np.array([index]))[0]


def refused(root, message, kind=DataError):
    with pytest.raises(kind, match=message):
        load("folder", directory=root)


def test_class_subfolders_are_split(tmp_path):
    write_images(tmp_path / "pets", count=10)
    problem = load("folder:pets", directory=tmp_path)
    assert problem.class_names == ("cat", "dog")
    assert problem.train.inputs.shape == (14, 8, 8, 3)
    assert len(problem.validation.inputs) == 2 and len(problem.test.inputs) == 4
    same = load("folder", directory=tmp_path / "pets")
    assert same.fingerprint == problem.fingerprint


@pytest.mark.parametrize("other", ["val", "valid", "validation", "test"])
def test_one_folder_beside_train_is_the_test_data(other, tmp_path):
    write_images(tmp_path / "train", count=10)
    write_images(tmp_path / other, count=3)
    problem = load("folder", directory=tmp_path)
    assert len(problem.train.inputs) == 18 and len(problem.test.inputs) == 6
    assert problem.source["test"] == "official"


def test_with_val_and_test_both_are_used(tmp_path):
    write_images(tmp_path / "train", count=10)
    write_images(tmp_path / "val", count=3)
    write_images(tmp_path / "test", count=4)
    problem = load("folder", directory=tmp_path)
    sizes = [len(s.inputs) for s in (problem.train, problem.validation, problem.test)]
    assert sizes == [20, 6, 8]
    assert problem.source["validation"] == "official"


@pytest.mark.parametrize("where", [True, "files"])
def test_images_without_subfolders_have_no_labels(where, tmp_path):
    write_images(tmp_path, classes=("train",), count=10)
    options = dict(preprocessing="none", on_device=where)
    cut = load("folder:train", directory=tmp_path, **options)
    assert cut.class_names is None and cut.train.labels is None
    sizes = [len(s.inputs) for s in (cut.train, cut.validation, cut.test)]
    assert sizes == [7, 1, 2]
    write_images(tmp_path, classes=("test",), count=3)
    given = load("folder", directory=tmp_path, **options)
    assert len(given.test.inputs) == 3 and given.test.targets is None
    for image in (tmp_path / "test").iterdir():
        image.unlink()
    refused(tmp_path, "test: no images in this folder", MissingDataError)
    write_images(tmp_path / "test")
    refused(tmp_path, "test: its class folders differ.*'cat'")


def test_pixels_and_order(tmp_path):
    write_images(tmp_path)
    expected = np.asarray(Image.open(tmp_path / "dog" / "2.png"))
    assert np.array_equal(one(tmp_path, 8), expected)


@pytest.mark.filterwarnings("ignore:.*notes.txt. passed over")
def test_files_that_are_not_images_are_passed_over(tmp_path):
    write_images(tmp_path, count=6)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / ".hidden.png").write_text("x")
    (tmp_path / ".cache").mkdir()
    assert folder.read(tmp_path).train.count == 12


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif", "ppm"])
def test_formats(suffix, tmp_path):
    write_images(tmp_path)
    pixels = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    (tmp_path / "cat" / "0.png").unlink()
    Image.fromarray(pixels).save(tmp_path / "cat" / f"0.{suffix}", quality=95)
    assert np.abs(one(tmp_path).astype(int) - pixels).max() <= 12


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"]
)
def test_modes_become_colour_or_grey(mode, tmp_path):
    write_images(tmp_path)
    target = tmp_path / "cat" / "0.png"
    if mode == "I;16":
        picture = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    else:
        picture = Image.fromarray(np.full((8, 8), 255, np.uint8)).convert(mode)
    if mode in ("CMYK", "YCbCr"):
        target.unlink()
        target = tmp_path / "cat" / "0.tif"
    picture.save(target)
    assert (one(tmp_path) == 255).all() and one(tmp_path).shape == (8, 8, 3)
    assert (one(tmp_path, channels=1) == 255).all()
    assert one(tmp_path, channels=1).shape == (8, 8, 1)


def test_32_bit_pixels_are_refused(tmp_path):
    write_images(tmp_path)
    picture = Image.fromarray(np.zeros((8, 8), np.float32))
    picture.save(tmp_path / "cat" / "0.tif")
    with pytest.raises(DataError, match="0.tif: 32-bit pixels"):
        one(tmp_path, 1)


def test_orientation_is_applied(tmp_path):
    write_images(tmp_path, size=(6, 8))
    pixels = np.zeros((8, 6, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "cat" / "0.png", exif=exif)
    image = one(tmp_path)
    assert image.shape == (6, 8, 3) and (image[0, 7] == 255).all()


def test_image_size_crops_the_centre_and_resizes(tmp_path):
    write_images(tmp_path)
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "cat" / "0.png")
    image = one(tmp_path, image_size=(4, 4))
    assert image.shape == (4, 4, 3) and image.min() > 200
    assert load("folder", directory=tmp_path, image_size=5).train.inputs.shape[1:] == (
        (5, 5, 3)
    )
    assert one(tmp_path, image_size=(3, 9)).shape == (3, 9, 3)


def test_several_sizes_need_image_size(tmp_path):
    write_images(tmp_path)
    Image.new("RGB", (9, 8)).save(tmp_path / "dog" / "3.png")
    refused(tmp_path, "3.png: 8 x 9 pixels, others have 8 x 8; pass")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"<html>", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "half"),
        # Pillow would have another program run this.
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
    ],
)
def test_broken_images_are_named(content, tmp_path):
    write_images(tmp_path, size=(40, 40))
    path = tmp_path / "dog" / "3.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    refused(tmp_path, "dog/3.png: (not a readable|broken or trunc)")


@pytest.mark.parametrize("limit", [10, 40, 60])
def test_pillow_pixel_limit_is_an_error(limit, tmp_path, monkeypatch):
    write_images(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(warnings, "warn", lambda *arguments, **settings: None)
    refused(tmp_path, r"\.png: .*(limit|exceeds)")


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(MissingDataError, match="nowhere: no such folder"):
        load("folder:nowhere", directory=tmp_path)
    refused(tmp_path, "0 class folder")
    write_images(tmp_path, classes=("cat",))
    refused(tmp_path, r"1 class folder\(s\), \['cat'\]")
    (tmp_path / "dog").mkdir()
    refused(tmp_path, "dog: no images", MissingDataError)


def test_parts_must_agree(tmp_path):
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", classes=("cat", "cow"))
    refused(tmp_path, "test: its class folders differ.*'cow'")
    for name in ("val", "valid"):
        write_images(tmp_path / name)
    refused(tmp_path, "both val and valid")


def test_only_the_chosen_images_are_decoded(tmp_path):
    write_images(tmp_path, classes=("cat", "cow", "dog"))
    (tmp_path / "cow" / "1.png").write_bytes(b"broken")
    assert load("folder", directory=tmp_path, classes=("cat", "dog")).classes == 2


IMAGENETTE = tuple(folder._IMAGENETTE)


def test_imagenette_has_english_names_and_one_size(tmp_path):
    for part in ("train", "val"):
        write_images(
            tmp_path / "imagenette" / part, classes=IMAGENETTE, count=4, size=(9, 12)
        )
    problem = load("imagenette", directory=tmp_path, preprocessing="none")
    assert problem.train.inputs.shape == (30, 128, 128, 3)
    assert problem.class_names is not None
    assert problem.class_names[:2] == ("tench", "English springer")
    assert problem.source["test"] == "official"
    assert problem.source["image_size"] == (128, 128)
    smaller = load("imagenette", directory=tmp_path / "imagenette", image_size=8)
    assert smaller.test.inputs.shape == (40, 8, 8, 3)


def test_cub50(tmp_path):
    names = [f"{i:03d}.Bird" for i in range(1, 51)]
    for part in ("train", "test"):
        write_images(tmp_path / "cub50" / part, classes=names, count=2, size=(4, 4))
    problem = load("cub50", directory=tmp_path, image_size=4)
    assert problem.classes == 50 and problem.test.inputs.shape == (100, 4, 4, 3)


@pytest.mark.parametrize(
    ("name", "where"),
    [("imagenette", "github.com/fastai"), ("cub50", "vision.caltech.edu")],
)
def test_named_folders_say_where_to_get_them(tmp_path, name, where):
    with pytest.raises(
        MissingDataError, match=f"{name}.train: no such folder.*{where}"
    ):
        load(name, directory=tmp_path)
    for part in ("train", "val", "test"):
        write_images(tmp_path / name / part)
    with pytest.raises(DataError, match=f"not the .*{where}"):
        load(name, directory=tmp_path)


@pytest.mark.parametrize(
    ("mode", "transparent", "opaque"),
    [
        ("RGBA", (255, 0, 0, 0), (10, 20, 30, 255)),
        ("LA", (0, 0), (40, 255)),
        ("P", 0, 1),
        ("RGB", (1, 2, 3), (9, 9, 9)),
    ],
)
def test_what_is_transparent_is_white(mode, transparent, opaque, tmp_path):
    write_images(tmp_path)
    picture = Image.new(mode, (8, 8), transparent)
    picture.putpixel((3, 5), opaque)
    options = {"transparency": transparent} if mode in ("P", "RGB") else {}
    if mode == "P":
        picture.putpalette([255, 0, 0, 10, 20, 30])
    picture.save(tmp_path / "cat" / "0.png", **options)
    for channels in (1, 3):
        image = one(tmp_path, channels=channels)
        shown = image[5, 3].copy()
        image[5, 3] = 255
        assert (image == 255).all() and (shown < 100).all()
    Image.new("RGBA", (8, 8), (255, 0, 0, 127)).save(tmp_path / "cat" / "0.png")
    half = one(tmp_path).astype(int) - [255, 128, 128]
    assert np.abs(half).max() <= 1


def test_what_is_passed_over_is_counted(tmp_path):
    write_images(tmp_path, count=10)
    for name in ("cat/a.heic", "cat/b.HEIC", "dog/notes.txt", "dog/sub/7.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "beside.png").write_bytes(b"x")
    (tmp_path / "README.md").write_bytes(b"x")
    message = r"5 files \(beside.png, cat/a.heic, .*dog/sub\) passed over"
    with pytest.warns(UserWarning, match=message):
        problem = load("folder", directory=tmp_path)
    counts = {".heic": 2, ".png": 1, ".txt": 1, "folder": 1}
    assert problem.source["passed_over"] == counts
    for image in (tmp_path / "cat").glob("*.png"):
        image.unlink()
    refused(tmp_path, r"cat: no images .*2 other.*\.heic", MissingDataError)


def test_usual_folders_are_read_without_a_word(tmp_path):
    write_images(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert "passed_over" not in load("folder", directory=tmp_path).source


def break_images(root, count):
    for i in range(count):
        (root / "cat" / f"{i}.png").write_bytes(b"broken")
    whole = (root / "dog" / "3.png").read_bytes()
    (root / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("count", [2, 12])
def test_broken_images_are_named_together(count, tmp_path):
    write_images(tmp_path, count=20, size=(40, 40))
    break_images(tmp_path, count)
    with pytest.raises(DataError) as caught:
        load("folder", directory=tmp_path)
    message = str(caught.value)
    assert f"{count + 1} of 40 images cannot be decoded: cat/0.png: not a" in message
    assert message.count(".png: ") == min(count + 1, 10) and "\n" not in message
    assert ("dog/3.png: broken" in message) == (count == 2)
    assert "broken='skip'" in message


def test_broken_images_may_be_skipped(tmp_path):
    kept, pets = tmp_path / "kept", tmp_path / "pets"
    write_images(pets, count=10, size=(40, 40))
    break_images(pets, 2)
    with pytest.warns(UserWarning, match=r"3 files \(cat/0.png, .*\) broken, skipped"):
        problem = load("folder", directory=pets, broken="skip")
    assert sum(problem.source["counts"].values()) == 17
    assert problem.source["broken_skipped"] == {
        "count": 3,
        "first": ["cat/0.png", "cat/1.png", "dog/3.png"],
    }
    write_images(kept, count=10, size=(40, 40))
    for name in problem.source["broken_skipped"]["first"]:
        (kept / name).unlink()
    assert load("folder", directory=kept).fingerprint == problem.fingerprint
    break_images(pets, 10)
    with pytest.raises(DataError, match="cat: every image of this class is broken"):
        load("folder", directory=pets, broken="skip")
    with pytest.raises(DataError, match="broken='drop'; known: refuse, skip"):
        load("folder", directory=pets, broken="drop")
    with pytest.raises(DataError, match="broken is only for folder, imagenette"):
        load("digits", broken="skip")


@pytest.mark.parametrize("kind", ["pipe", "link", "socket"])
def test_what_is_no_file_is_refused_and_does_not_hang(kind, tmp_path, monkeypatch):
    write_images(tmp_path, count=10)
    monkeypatch.chdir(tmp_path / "cat")  # names of sockets are short
    if kind == "pipe":
        os.mkfifo("3a.png")
    elif kind == "link":
        os.symlink("nowhere.png", "3a.png")
    else:
        socket.socket(socket.AF_UNIX).bind("3a.png")
    with pytest.raises(
        DataError, match="1 of 21 images .*cat/3a.png: (a pipe|not a r)"
    ):
        load("folder", directory=tmp_path)
    with pytest.warns(UserWarning, match="cat/3a.png"):
        assert load("folder", directory=tmp_path, broken="skip").classes == 2


def test_a_first_image_that_is_broken(tmp_path):
    write_images(tmp_path, count=4)
    os.mkfifo(tmp_path / "cat" / "..png")
    os.mkfifo(tmp_path / "cat" / "+.png")
    refused(tmp_path, r"1 of 9 images .*cat/\+.png: a pipe")
