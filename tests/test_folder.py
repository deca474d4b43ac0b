"""dataset: folder, anyone's own images."""

import miniatures
import pytest
from commands import ROOT, script

from simam_repro.config import Data, build_experiment
from simam_repro.data import prepare_data
from simam_repro.errors import UserError
from simam_repro.runs import RunFolder, data_differences


def fill(folder, files: dict[str, int]):
    for name, count in files.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            (folder / name / f"{index:03d}.jpg").write_bytes(miniatures.jpeg(index))
    return folder


def prepare(folder):
    return prepare_data(Data(dataset="folder", folder=str(folder)), progress=False)


def test_classes_alone_are_split_by_position(tmp_path):
    data = prepare(fill(tmp_path, {"cat": 6, "dog": 11}))
    assert data.classes == ("cat", "dog") and not data.stand_in
    assert data.eval.ids == ("cat/000.jpg", "cat/005.jpg", "dog/000.jpg", "dog/005.jpg", "dog/010.jpg")
    assert len(data.train) == 12 and data.train.labels.tolist() == [0] * 4 + [1] * 8
    assert data.train.images[0].mode == "RGB"


def test_train_and_eval_are_taken_as_they_are(tmp_path):
    data = prepare(fill(tmp_path, {"train/cat": 3, "train/dog": 2, "eval/cat": 1, "eval/dog": 1}))
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.eval.ids == ("eval/cat/000.jpg", "eval/dog/000.jpg")


def test_listing_decides_the_checksum(tmp_path):
    first, second = (fill(tmp_path / name, {"cat": 2, "dog": 2}) for name in "ab")
    assert prepare(first).sha256 == prepare(second).sha256
    (second / "cat" / "more.jpg").write_bytes(miniatures.jpeg(9))
    assert prepare(first).sha256 != prepare(second).sha256


def test_starting_opens_no_image(tmp_path, monkeypatch):
    fill(tmp_path, {"cat": 2, "dog": 2})
    monkeypatch.setattr("PIL.Image.open", lambda *_: pytest.fail("an image was opened"))
    assert len(prepare(tmp_path).train) == 2


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, "no images"),
        ({"cat": 3}, "the class cat only"),
        ({"cat": 3, "dog": 0}, "no images in .*dog"),
        ({"train/cat": 2, "train/dog": 2, "eval/cat": 1, "eval/wolf": 1}, "differ in the classes dog, wolf"),
    ],
)
def test_unusable_folders(tmp_path, files, words):
    with pytest.raises(UserError, match=words):
        prepare(fill(tmp_path, files))


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match="not a folder.*train/<class>/"):
        prepare(tmp_path / "nowhere")


def test_trains(tmp_path):
    fill(tmp_path / "images", {"cat": 20, "dog": 20, "owl": 20})
    (tmp_path / "images" / "cat" / "notes.txt").write_text("no image")
    done = script(
        "train", "-c", ROOT / "configs/caltech_mobilenetv2_simam.yaml", "--smoke", "--run-dir", tmp_path / "run",
        "-o", "data.dataset=folder", "-o", f"data.folder={tmp_path / 'images'}", "-o", "data.image_size=64",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(images; " in done.stdout and "images: left out 1 file: 1 no image (cat/notes.txt)\n" in done.stderr
    assert RunFolder(tmp_path / "run").read_result()["data"]["left_out"]["count"] == 1


def test_five_splits_evaluate_each_image_once(tmp_path):
    fill(tmp_path / "flat", {"cat": 6, "dog": 11})
    splits = [
        prepare_data(Data(dataset="folder", folder=str(tmp_path / "flat"), split=split), progress=False)
        for split in range(5)
    ]
    everything = {*splits[0].train.ids, *splits[0].eval.ids}
    assert sorted(name for data in splits for name in data.eval.ids) == sorted(everything) and len(everything) == 17
    for split, data in enumerate(splits):
        assert {*data.train.ids} == everything - {*data.eval.ids}
        assert all(int(name[-7:-4]) % 5 == split for name in data.eval.ids)
        assert data.describe().get("split", 0) == split
    assert "split" not in splits[0].describe() and len({data.sha256 for data in splits}) == 5
    assert data_differences(splits[0].describe(), splits[2].describe()) == ["data.split was 0 and is 2"]
    assert data_differences(splits[2].describe(), splits[2].describe()) == []


def test_splits_that_cannot_be_are_refused(tmp_path):
    fill(tmp_path / "halves", {"train/cat": 2, "train/dog": 2, "eval/cat": 1, "eval/dog": 1})
    with pytest.raises(UserError, match="train/ and eval/, which are its split; make it 0"):
        prepare_data(Data(dataset="folder", folder=str(tmp_path / "halves"), split=1), progress=False)
    fill(tmp_path / "small", {"cat": 3, "dog": 3})
    with pytest.raises(UserError, match="no class has more than 4 images"):
        prepare_data(Data(dataset="folder", folder=str(tmp_path / "small"), split=4), progress=False)
    with pytest.raises(UserError, match="data.split is for dataset: caltech101_16, folder, shapes16 only; make it 0"):
        build_experiment({"name": "a", "data": {"dataset": "cifar10", "split": 1}})
