"""Images as users have them: damaged, of odd kinds and sizes."""

import io
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import miniatures
import numpy as np
import pytest
from commands import ROOT, assert_refused, run, script
from PIL import Image
from refusals import left_behind, refusal

from simam_repro.config import Data
from simam_repro.data import images, prepare_data
from simam_repro.data.images import MAX_PIXELS, open_image
from simam_repro.data.sets.folder import check_images
from simam_repro.data.transforms import eval_image
from simam_repro.errors import UserError

# kinds


def encode(image: Image.Image, kind: str, **options) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return buffer


GRADIENT = np.stack(np.broadcast_arrays(np.arange(64)[:, None] * 4, np.arange(64) * 4, 128), axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    "kind",
    "RGB-PNG RGB-BMP RGB-WEBP RGB-TIFF RGB-PPM RGB-JPEG CMYK-JPEG CMYK-TIFF P-PNG P-GIF RGBA-PNG RGBA-WEBP".split(),
)
def test_every_mode_shows_the_same_picture(kind):
    mode, kind = kind.split("-")
    image = open_image(encode(Image.fromarray(GRADIENT).convert(mode), kind), "here")
    assert image.mode == "RGB" and image.size == (64, 64)
    # A palette of 256 web colours is coarse; the others lose what JPEG and WebP lose.
    assert np.abs(np.asarray(image).astype(int) - GRADIENT).mean() < (20 if mode == "P" else 4)


def test_one_bit_and_grey():
    mask = np.eye(8, dtype=bool)
    for kind in ("PNG", "TIFF", "BMP"):
        image = np.asarray(open_image(encode(Image.fromarray(mask), kind), "here"))
        assert np.array_equal(image[..., 0], mask * 255) and np.ptp(image, axis=2).max() == 0


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_stands_upright(turn):
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = Image.fromarray(GRADIENT[:32])
    stored = upright.transpose(inverse[turn]) if turn in inverse else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    assert np.array_equal(np.asarray(open_image(encode(stored, "PNG", exif=exif), "here")), np.asarray(upright))


def test_broken_exif_is_no_broken_image():
    content = encode(Image.fromarray(GRADIENT), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffbroken")
    assert open_image(content, "here").size == (64, 64)


# grey values of more than 8 bits

RAMP = np.tile(np.linspace(0, 1, 64), (64, 1))
DEEP = {
    "16 bits": ((RAMP * 65535).astype(np.uint16), "PNG"),
    "12 bits in 16": ((RAMP * 4095).astype(np.uint16), "PNG"),
    "8 bits in 16": ((RAMP * 255).astype(np.uint16), "PNG"),
    "16 bits in 32": ((RAMP * 65535).astype(np.int32), "TIFF"),
    "16 bits in a PGM": ((RAMP * 65535).astype(np.int32), "PPM"),
    "reals to 1": (RAMP.astype(np.float32), "TIFF"),
    "reals to 255": ((RAMP * 255).astype(np.float32), "TIFF"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_a_ramp_of_any_depth_is_the_same_ramp(kind):
    values, file_format = DEEP[kind]
    opened = np.asarray(open_image(encode(Image.fromarray(values), file_format), "here")).astype(int)
    assert np.abs(opened - RAMP[..., None] * 255).max() <= 1 and np.ptp(opened, axis=2).max() == 0


@pytest.mark.parametrize(
    "values",
    [
        np.full((4, 4), -1.0), np.full((4, 4), 256.0), np.full((4, 4), np.nan), np.array([[0.0, np.inf]]),
        np.array([[-1, 5]]), np.array([[0, 65536]]),
    ],
    ids=str,
)  # fmt: skip
def test_values_of_no_picture_are_refused(values):
    kind = np.float32 if values.dtype.kind == "f" else np.int32
    with pytest.raises(UserError, match="here has values from .* scale them to"):
        open_image(encode(Image.fromarray(values.astype(kind)), "TIFF"), "here")


# sizes


def test_a_pixel():
    image = open_image(encode(Image.new("RGB", (1, 1), (10, 20, 30)), "PNG"), "here")
    assert np.array_equal(eval_image(image, 8), np.full((8, 8, 3), (10, 20, 30), np.uint8))


@pytest.mark.parametrize("size", [(20_000, 1_000), (1, 20_000)])
def test_long_images(size, recwarn):
    image = open_image(encode(Image.new("L", size, 77), "PNG"), "here")
    assert image.size == size and (eval_image(image, 16) == 77).all()
    assert not recwarn.list


def test_images_between_pillows_warning_and_its_limit_are_read_without_words(tmp_path):
    Image.new("1", (20_000, 5_000)).save(tmp_path / "wide.png")
    code = "import sys; from simam_repro.data.images import open_image; print(open_image(sys.argv[1]).size)"
    done = run([sys.executable, "-c", code, tmp_path / "wide.png"])
    assert done.stdout == "(20000, 5000)\n" and "Bomb" not in done.stderr


def test_400_million_pixels_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    bomb = encode(Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(UserError, match="here has more than 179 million pixels; scale it down"):
        open_image(bomb, "here")
    assert MAX_PIXELS == 178_956_970


def test_a_small_webp_that_would_take_gigabytes_is_refused():
    """28 bytes that say: lossless, 16,383 x 10,000 pixels, all of one colour."""
    bomb = io.BytesIO(b"RIFF\x14\0\0\0WEBPVP8L\x08\0\0\0/\xfe\xff\xc3\t\x88\x88\x08")
    assert Image.open(bomb).size == (16_383, 10_000)
    with pytest.raises(UserError, match="here has more than 67 million pixels"):
        open_image(bomb, "here")


def test_threads_decode_as_much_at_a_time_as_is_allowed(monkeypatch):
    """Eight threads of 100 pixels each where 250 may be decoded: two at a time; one that is larger: alone."""
    turns, inside, most = images._Turns(250), [], []

    def decode(pixels):
        with turns.take(pixels):
            inside.append(pixels)
            most.append(sum(inside))
            time.sleep(0.005)
            inside.remove(pixels)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [100] * 16 + [1000] + [100] * 4))
    assert sorted(set(most))[-2:] == [200, 1000]
    monkeypatch.setattr(images, "_turns", turns)
    assert open_image(encode(Image.new("L", (20, 20)), "PNG"), "here").size == (20, 20) and turns.taken == 0


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="pipe.png .* no regular file"):
        open_image(tmp_path / "pipe.png")


@pytest.mark.parametrize("kind", ["EPS", "ICNS", "PDF"])
def test_kinds_that_start_programs_or_are_rare_are_refused(kind):
    with pytest.raises(UserError, match="here is no image of the kinds JPEG, PNG"):
        open_image(encode(Image.new("RGB", (128, 128)), kind), "here")


def test_many_damages_give_the_one_error():
    """Cut and overwritten images of every kind open, or are refused by their name; nothing else is raised."""
    rng, outcomes = np.random.default_rng(5), {True: 0, False: 0}
    for kind in ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"):
        good = encode(Image.fromarray(GRADIENT), kind).getvalue()
        for _ in range(60):
            content = bytearray(good[: rng.integers(1, 2 * len(good))])
            for position in rng.integers(0, len(content), rng.integers(0, 9)):
                content[position] = rng.integers(256)
            try:
                opened = open_image(io.BytesIO(bytes(content)), "here").mode == "RGB"
            except UserError as error:
                assert str(error).startswith("here ")
                opened = False
            outcomes[opened] += 1
    assert min(outcomes.values()) > 100


# damaged images in a data set


DAMAGED = ["ewer/image_0002.jpg", "watch/image_0001.jpg"]


@pytest.fixture
def damaged_archive(tmp_path):
    files = miniatures.caltech_files(6)
    for name in DAMAGED:
        files[f"101_ObjectCategories/{name}"] = files[f"101_ObjectCategories/{name}"][:-50]
    return miniatures.write_tar(tmp_path / "in" / "101_ObjectCategories.tar.gz", files)


def test_a_damaged_image_is_refused_with_its_path_and_the_choice(prepare, damaged_archive, data_root):
    message = refusal(prepare, "caltech101_16", [damaged_archive.parent], allow_miniature=True)
    assert any(name in message for name in DAMAGED) and "--skip-damaged" in message and "replace or remove" in message
    assert left_behind(data_root) == []


def bomb() -> bytes:
    return encode(Image.new("1", (20_000, 20_000)), "PNG").getvalue()


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"<html>", "no image of the kinds"), (b"", "no image of the kinds"), (bomb, "more than 179 million pixels")],
    ids=["text", "nothing", "bomb"],
)
def test_what_is_an_image_by_its_name_only(prepare, tmp_path, data_root, content, problem):
    files = miniatures.caltech_files(3)
    files["101_ObjectCategories/ibis/image_0002.jpg"] = content() if callable(content) else content
    archive = miniatures.write_tar(tmp_path / "in" / "101_ObjectCategories.tar.gz", files)
    message = refusal(prepare, "caltech101_16", [archive.parent], allow_miniature=True)
    assert "ibis/image_0002.jpg" in message and problem in message and left_behind(data_root) == []
    skipping = prepare("caltech101_16", [archive.parent], allow_miniature=True, skip_damaged=True)
    assert skipping.skipped == ("ibis/image_0002.jpg",)


def test_skipping_leaves_out_the_damaged_and_moves_no_other(prepare, damaged_archive, caltech_archive, data_root):
    whole = prepare("caltech101_16", [caltech_archive.parent], allow_miniature=True)
    os.rename(data_root, data_root.with_name("whole"))
    skipping = prepare("caltech101_16", [damaged_archive.parent], allow_miniature=True, skip_damaged=True)
    assert sorted(skipping.skipped) == DAMAGED == sorted(skipping.describe()["skipped"])
    assert skipping.train.ids == tuple(name for name in whole.train.ids if name not in DAMAGED)
    assert skipping.eval.ids == tuple(name for name in whole.eval.ids if name not in DAMAGED)
    assert (len(skipping.train), len(skipping.eval)) == (63, 31)  # one of each half
    manifest = json.loads((data_root / "caltech101_16_miniature" / "manifest.json").read_text())
    assert sorted(manifest["damaged"]) == DAMAGED


def test_a_set_that_lacks_images_does_not_pass_where_nothing_is_skipped(prepare, damaged_archive, caltech_archive):
    prepare("caltech101_16", [damaged_archive.parent], allow_miniature=True, skip_damaged=True)
    message = refusal(prepare, "caltech101_16", [damaged_archive.parent], allow_miniature=True)
    assert "--skip-damaged" in message
    again = prepare("caltech101_16", [damaged_archive.parent], allow_miniature=True, skip_damaged=True)
    assert len(again.skipped) == 2  # the refusal has left the set as it was
    repaired = prepare("caltech101_16", [caltech_archive.parent], allow_miniature=True)
    assert (repaired.skipped, len(repaired.train)) == ((), 64)


def test_a_class_with_damaged_images_only_is_refused(prepare, tmp_path, data_root):
    files = miniatures.caltech_files(2)
    files["101_ObjectCategories/ibis/image_0002.jpg"] = b""
    archive = miniatures.write_tar(tmp_path / "in" / "101_ObjectCategories.tar.gz", files)
    message = refusal(prepare, "caltech101_16", [archive.parent], allow_miniature=True, skip_damaged=True)
    assert "of the 2 images of class ibis none is left to train on" in message and left_behind(data_root) == []


def test_two_files_of_one_name_are_refused_even_when_one_is_damaged(prepare, tmp_path):
    files = {"Images/a class/one two.jpg": b"damaged", "Images/a_class/one_two.jpg": miniatures.jpeg(2)}
    archive = miniatures.write_zip(tmp_path / "own.zip", files)
    assert "two files become" in refusal(prepare, "caltech101_16", archive=str(archive), skip_damaged=True)


@pytest.fixture
def photos(tmp_path):
    """A folder of three classes with two damaged images: (folder, [names])."""
    names = ["cat/001.jpg", "dog/000.jpg"]
    for label, name in enumerate(("cat", "dog", "owl")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(6):
            content = miniatures.jpeg(10 * label + index)
            damaged = f"{name}/{index:03d}.jpg" in names
            (tmp_path / "photos" / name / f"{index:03d}.jpg").write_bytes(content[:-60] if damaged else content)
    return tmp_path / "photos", names


def prepared(folder, root, **keys):
    return prepare_data(Data(dataset="folder", folder=str(folder), root=str(root), **keys), progress=False)


def test_damaged_images_of_a_folder_are_named_and_can_be_skipped(photos, data_root):
    folder, names = photos
    with pytest.raises(UserError, match="cat/001.jpg is damaged .*--skip-damaged"):
        check_images(prepared(folder, data_root), progress=False)
    data = prepared(folder, data_root, skip_damaged=True)
    assert sorted(data.skipped) == names
    assert data.eval.ids == ("cat/000.jpg", "cat/005.jpg", "dog/005.jpg", "owl/000.jpg", "owl/005.jpg")
    assert len(data.train) == 11
    check_images(data, progress=False)


def test_a_folder_is_checked_once_and_again_when_it_changes(photos, data_root, monkeypatch):
    folder, names = photos
    first = prepared(folder, data_root, skip_damaged=True)
    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("an image was opened"))
        assert prepared(folder, data_root, skip_damaged=True).skipped == first.skipped
    (folder / names[0]).write_bytes(miniatures.jpeg(1))
    second = prepared(folder, data_root, skip_damaged=True)
    assert second.skipped == (names[1],) and second.sha256 != first.sha256


def test_skipping_in_train_and_eval_folders(tmp_path, data_root):
    for half in ("train", "eval"):
        for name in ("cat", "dog"):
            (tmp_path / "set" / half / name).mkdir(parents=True)
            for index in range(2):
                (tmp_path / "set" / half / name / f"{index}.jpg").write_bytes(miniatures.jpeg(index))
    (tmp_path / "set/eval/dog/1.jpg").write_bytes(b"")
    data = prepared(tmp_path / "set", data_root, skip_damaged=True)
    assert data.skipped == ("eval/dog/1.jpg",) and data.eval.ids == (
        "eval/cat/0.jpg",
        "eval/cat/1.jpg",
        "eval/dog/0.jpg",
    )
    (tmp_path / "set/eval/dog/0.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="eval: every image of dog is damaged"):
        prepared(tmp_path / "set", data_root, skip_damaged=True)


def test_a_class_without_a_training_image_is_refused(tmp_path, data_root):
    for name, count in (("cat", 3), ("dog", 1)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(count):
            (tmp_path / "set" / name / f"{index}.jpg").write_bytes(miniatures.jpeg(index))
    with pytest.raises(UserError, match="of the 1 images of class dog none is left to train on"):
        prepared(tmp_path / "set", data_root)


def test_the_commands_refuse_and_skip(photos, tmp_path):
    folder, names = photos
    data = ("-c", ROOT / "configs/caltech_mobilenetv2_simam.yaml", "-o", "data.dataset=folder", "-o",
            f"data.folder={folder}", "-o", "data.image_size=32", "-o", f"data.root={tmp_path / 'data'}")  # fmt: skip
    assert_refused(script("prepare_data", *data), names[0], f"(1 more: {names[1]})", "--skip-damaged")
    assert_refused(script("train", *data, "--run-dir", tmp_path / "run"), "is damaged", "--skip-damaged")
    assert not (tmp_path / "run").exists()
    done = script("prepare_data", *data, "--skip-damaged")
    assert done.returncode == 0 and f"left out 2 damaged: {', '.join(names)}" in done.stdout, done.stderr
    done = script("train", *data, "--smoke", "--skip-damaged", "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["data"]["skipped"] == names and result["data"]["class_names"] == ["cat", "dog", "owl"]
