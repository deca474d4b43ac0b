"""shapes16, the embedded stand-in data."""

import zipfile

import numpy as np

from simam_repro.data.sets import shapes16


def test_shapes16_is_its_seed(tmp_path):
    paths = [tmp_path / "a.zip", tmp_path / "b.zip", tmp_path / "c.zip"]
    for path, seed in zip(paths, (1, 1, 2)):
        shapes16.write_archive(path, images_per_class=1, seed=seed, progress=False)
    first, same, other = (path.read_bytes() for path in paths)
    assert first == same
    assert first != other
    with zipfile.ZipFile(paths[0]) as archive:
        assert len({info.date_time for info in archive.infolist()}) == 1
        assert archive.infolist()[0].date_time[0] == 2021  # not the time of writing


def test_shapes16(prepare, monkeypatch, data_root):
    monkeypatch.setattr(shapes16, "IMAGES_PER_CLASS", 6)
    data = prepare("shapes16")
    assert (data.name, data.stand_in, len(data.classes), len(set(data.classes))) == ("shapes16", True, 16, 16)
    assert (len(data.train), len(data.eval)) == (16 * 4, 16 * 2)
    assert {(image.size, image.mode) for image in data.eval.images} == {((144, 144), "RGB")}
    assert sorted(path.name for path in data_root.iterdir()) == ["archives", "shapes16-v1-6x144-seed16"]


def test_other_parameters_are_another_set(prepare, monkeypatch):
    monkeypatch.setattr(shapes16, "IMAGES_PER_CLASS", 2)
    first = prepare("shapes16")
    monkeypatch.setattr(shapes16, "SEED", 17)
    second = prepare("shapes16")
    assert first.sha256 != second.sha256
    monkeypatch.setattr(shapes16, "IMAGES_PER_CLASS", 3)
    assert len(prepare("shapes16").train) == 16 * 2
    monkeypatch.setattr(shapes16, "SEED", 16)
    monkeypatch.setattr(shapes16, "IMAGES_PER_CLASS", 2)
    assert prepare("shapes16").sha256 == first.sha256


def test_shapes16_figures_differ_from_their_ground_and_each_other():
    masks = {}
    for name in shapes16.FIGURES:
        masks[name] = shapes16._mask(shapes16.FIGURES[name], np.random.default_rng(3), 72)
        assert 0.03 < masks[name].mean() < 0.9
    names = list(masks)
    for index, name in enumerate(names):
        assert all(np.abs(masks[name] - masks[other]).mean() > 0.01 for other in names[:index])
