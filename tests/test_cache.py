"""The cache of decoded images: exact, shared, keyed by all that shapes it, made again when it is not whole."""

import os
import subprocess
import sys
from types import SimpleNamespace

import miniatures
import numpy as np
import pytest
from commands import ROOT
from PIL import Image
from refusals import refusal

from simam_repro.config import Data
from simam_repro.data import build_loaders, cache
from simam_repro.data.cache import ResizedImages, open_cache
from simam_repro.data.class_folders import file_split
from simam_repro.data.prepared import ArrayImages, FileImages, PreparedData

COUNT, SIDE = 7, 16


def write_images(folder, count=COUNT) -> FileImages:
    folder.mkdir(parents=True)
    for index in range(count):
        (folder / f"{index}.jpg").write_bytes(miniatures.jpeg(index))
    return FileImages(folder, tuple(f"{index}.jpg" for index in range(count)))


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images")


@pytest.fixture
def decoded(monkeypatch):
    """Receives the name of every file that is decoded."""
    names, real = [], FileImages.__getitem__

    def noted(self, index):
        names.append(self.names[index])
        return real(self, index)

    monkeypatch.setattr(FileImages, "__getitem__", noted)
    return names


def plain(images, side=SIDE) -> np.ndarray:
    opened = [Image.open(images.folder / name).convert("RGB") for name in images.names]
    return np.stack([np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)) for image in opened])


def cached(images, folder, indices=None, side=SIDE) -> ResizedImages:
    resized = ResizedImages(images, side, folder, range(len(images.names)) if indices is None else indices)
    resized.open()
    return resized


def all_of(resized) -> np.ndarray:
    return np.stack([resized[index] for index in range(len(resized.images))])


def files(folder) -> list:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_pixels_are_those_of_decoding_and_resizing(images, tmp_path):
    assert np.array_equal(all_of(cached(images, tmp_path / "cache")), plain(images))


def test_enlarged_pixels_too_to_one_level(images, tmp_path):
    difference = all_of(cached(images, tmp_path / "cache", side=64)).astype(int) - plain(images, 64)
    assert np.abs(difference).max() <= 1


def test_decoded_once(images, tmp_path, decoded):
    cached(images, tmp_path / "cache")
    assert sorted(decoded) == sorted(images.names)
    again = cached(images, tmp_path / "cache")
    for _ in range(2):
        assert np.array_equal(all_of(again), plain(images))
    assert len(decoded) == COUNT


def test_memory_mapped_for_reading_and_a_plain_npy(images, tmp_path):
    array = open_cache(images, np.arange(COUNT), SIDE, tmp_path / "cache")
    assert isinstance(array.base, np.memmap) and not array.flags.writeable
    (file,) = files(tmp_path / "cache")
    assert np.array_equal(np.load(file), plain(images))


def test_what_is_handed_out_is_not_the_cache(images, tmp_path):
    resized = cached(images, tmp_path / "cache")
    resized[0][:] = 0
    assert np.array_equal(all_of(resized), plain(images))


def test_only_the_images_in_use_are_decoded(images, tmp_path, decoded):
    resized = cached(images, tmp_path / "cache", indices=[1, 4])
    assert sorted(decoded) == ["1.jpg", "4.jpg"]
    assert np.array_equal(all_of(resized), plain(images))  # the others, when asked for


# keyed by everything that shapes it


def rewrite_in_the_same_size(images):
    path = images.folder / "3.jpg"
    old, new = path.read_bytes(), miniatures.jpeg(99)
    # A JPEG may have anything after its end; so both come to one size.
    path.write_bytes(old + bytes(10_000 - len(old)))
    stat = path.stat()
    before = all_of(cached(images, images.folder.parent / "cache"))
    path.write_bytes(new + bytes(10_000 - len(new)))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    return before


def rewrite(images):
    before = all_of(cached(images, images.folder.parent / "cache"))
    (images.folder / "3.jpg").write_bytes(miniatures.jpeg(99))
    return before


@pytest.mark.parametrize("change", [rewrite, rewrite_in_the_same_size])
def test_a_changed_file_is_noticed(images, tmp_path, change):
    before = change(images)
    after = all_of(cached(images, tmp_path / "cache"))
    assert np.array_equal(after, plain(images)) and not np.array_equal(before[3], after[3])


def test_side_selection_code_and_pillow_have_caches_of_their_own(images, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    cached(images, folder)
    cached(images, folder, side=12)
    cached(images, folder, indices=[0, 1, 2])
    cached(images, folder, indices=[0, 1, 3])
    assert len(files(folder)) == 4
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    cached(images, folder)
    monkeypatch.setattr(cache.PIL, "__version__", "0.0")
    cached(images, folder)
    assert len(files(folder)) == 6


def test_moved_images_keep_their_cache(images, tmp_path, decoded):
    cached(images, tmp_path / "cache")
    moved = images.folder.rename(tmp_path / "elsewhere")
    cached(FileImages(moved, images.names), tmp_path / "cache")
    assert len(decoded) == COUNT


# whole or made again


def flip_a_pixel(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def foreign(path):
    np.save(path, np.zeros((COUNT, SIDE, SIDE, 3), np.uint8))


def foreign_with_a_tail(path):
    foreign(path)
    path.write_bytes(path.read_bytes() + bytes(32))


DAMAGES = {
    "pixel": flip_a_pixel,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut a little": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "header": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x06\x00{'desc" + path.read_bytes()[20:]),
    "objects": lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
    "no npy": lambda path: path.write_bytes(b"PK\x03\x04" * 1000),
    "foreign": foreign,
    "foreign with a tail": foreign_with_a_tail,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_repaired(images, tmp_path, damage):
    cached(images, tmp_path / "cache")
    (file,) = files(tmp_path / "cache")
    whole = file.read_bytes()
    DAMAGES[damage](file)
    assert np.array_equal(all_of(cached(images, tmp_path / "cache")), plain(images))
    assert files(tmp_path / "cache") == [file] and file.read_bytes() == whole


def test_a_cache_under_anothers_name_is_not_taken_for_it(images, tmp_path):
    cached(images, tmp_path / "cache", indices=[0, 1])
    cached(images, tmp_path / "cache", indices=[2, 3])
    first, second = files(tmp_path / "cache")
    first.write_bytes(second.read_bytes())
    for indices in ([0, 1], [2, 3]):
        assert np.array_equal(all_of(cached(images, tmp_path / "cache", indices=indices)), plain(images))


def test_an_image_that_does_not_decode_leaves_no_cache(images, tmp_path):
    os.truncate(images.folder / "5.jpg", 400)
    assert "5.jpg is damaged" in refusal(cached, images, tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_an_image_that_is_gone_is_named(images, tmp_path):
    (images.folder / "5.jpg").unlink()
    assert "5.jpg cannot be read" in refusal(cached, images, tmp_path / "cache")


def test_what_a_killed_process_left_is_removed(images, tmp_path):
    cached(images, tmp_path / "cache")
    (file,) = files(tmp_path / "cache")
    file.rename(file.with_name(f".{file.name}.0123abcd.tmp.npy"))
    cached(images, tmp_path / "cache")
    assert files(tmp_path / "cache") == [file]


MAKE = r"""
import sys, time
from pathlib import Path
from simam_repro.data import cache
from simam_repro.data.prepared import FileImages
real = FileImages.__getitem__
def noted(self, index):
    sys.stdout.write(f"{index}\n")
    time.sleep(0.2)
    return real(self, index)
FileImages.__getitem__ = noted
folder, count = Path(sys.argv[1]), int(sys.argv[2])
images = FileImages(folder, tuple(f"{index}.jpg" for index in range(count)))
resized = cache.ResizedImages(images, 16, folder.parent / "cache", range(count))
print("ready", flush=True)
sys.stdin.readline()  # both start together
resized.open()
assert resized[0].shape == (16, 16, 3)
"""


def test_processes_that_want_it_at_once_make_it_once(images, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", MAKE, str(images.folder), str(COUNT)]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    # One decoded all, the other waited; each opens image 0 from the cache.
    assert sorted(map(len, outputs)) == [0, COUNT]
    assert len(files(tmp_path / "cache")) == 1


# where there can be none


def too_large(monkeypatch, folder):
    monkeypatch.setattr(cache, "LARGEST_BYTES", 1000)


def disk_full(monkeypatch, folder):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))


def disk_full_while_writing(monkeypatch, folder):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write", fail)


def not_a_folder(monkeypatch, folder):
    folder.write_text("in the way")


@pytest.mark.parametrize("hindrance", [too_large, disk_full, disk_full_while_writing, not_a_folder])
def test_without_a_cache_images_are_decoded_and_one_line_says_so(images, tmp_path, monkeypatch, capsys, hindrance):
    hindrance(monkeypatch, tmp_path / "cache")
    assert np.array_equal(all_of(cached(images, tmp_path / "cache")), plain(images))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: no cache of decoded images (") and "decoded anew" in line


def test_arrays_need_no_cache(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    resized = ResizedImages(ArrayImages(pixels), 8, tmp_path / "cache", range(3))
    resized.open()
    assert np.array_equal(resized[1], pixels[1]) and not (tmp_path / "cache").exists()


# in the loaders


def data_set(tmp_path) -> PreparedData:
    splits = [
        file_split(write_images(tmp_path / half, count).folder, [(f"{index}.jpg", index % 2) for index in range(count)])
        for half, count in (("train", 10), ("eval", 5))
    ]
    return PreparedData("some", "0" * 64, True, ("a", "b"), *splits)


def batches(loader) -> list:
    return [images.numpy() for images, _ in loader]


def test_loaders_keep_their_caches_below_the_root(tmp_path, decoded):
    config = Data(root=str(tmp_path / "root"), image_size=SIDE, batch_size=4, augment={"rotation": 10})
    data = data_set(tmp_path)
    loaders = build_loaders(data, config, seed=0)
    assert decoded == []  # nothing before it is needed
    first = batches(loaders.eval)
    assert len(decoded) == 5
    loaders.open()
    assert len(decoded) == 15 and len(files(tmp_path / "root" / "cache" / "some")) == 2
    for epoch in (1, 2):
        loaders.set_epoch(epoch)
        batches(loaders.train)
    assert len(decoded) == 15 and all(map(np.array_equal, first, batches(loaders.eval)))
    # With the read-only images anywhere: nothing lies beside them.
    assert len(files(tmp_path / "train")) == 10


def test_cached_batches_are_those_of_images_decoded_each_time(tmp_path, monkeypatch):
    config = Data(root=str(tmp_path / "root"), image_size=SIDE, batch_size=4, augment={"rotation": 10, "resize": 20})
    data = data_set(tmp_path)
    kept = batches(build_loaders(data, config, seed=0).train)
    monkeypatch.setattr(cache, "LARGEST_BYTES", 0)
    anew = batches(build_loaders(data, config, seed=0).train)
    assert len(kept) == 3 and all(map(np.array_equal, kept, anew))
