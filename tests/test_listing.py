"""What of folders and archives is taken for images, and that the rest is counted."""

import io
import os
import unicodedata

import miniatures
import numpy as np
import pytest
from PIL import Image

from simam_repro.config import Data, Experiment
from simam_repro.data import prepare_data
from simam_repro.data.listing import left_out_line
from simam_repro.errors import UserError
from simam_repro.evaluation import find_images
from simam_repro.evaluation.trained import Trained
from simam_repro.reporting.predictions import write_predictions
from simam_repro.reporting.style import new_figure, save_figure
from simam_repro.runs import RunFolder

KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".PNG": "PNG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP",
         ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM", "": "PNG", ".1": "JPEG"}  # fmt: skip
OTHERS = {"notes.txt": b"of the photographer", "raw.nef": None, ".hidden.jpg": None, ".DS_Store": b"", "Thumbs.db": b"",
          "._0.jpg": b"", ".ipynb_checkpoints/0.jpg": None, "__MACOSX/._0.jpg": b""}  # fmt: skip


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (9, 9), 77).save(buffer, kind)
    return buffer.getvalue()


def class_files(class_name: str) -> dict[str, bytes]:
    files = {f"{index}{suffix}": encoded(kind) for index, (suffix, kind) in enumerate(KINDS.items())}
    files["below/deeper/0.jpg"] = encoded("JPEG")
    files |= {name: encoded("TIFF") if content is None else content for name, content in OTHERS.items()}
    return {f"{class_name}/{name}": content for name, content in files.items()}


def write(folder, files: dict) -> None:
    for name, content in files.items():
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def prepare(folder, **keys):
    return prepare_data(Data(dataset="folder", folder=str(folder), **keys), progress=False)


TAKEN = {*(f"{index}{suffix}" for index, suffix in enumerate(KINDS)), "below/deeper/0.jpg"}


def test_every_kind_of_image_of_a_folder_is_taken_and_the_rest_counted(tmp_path):
    write(tmp_path, class_files("cat") | class_files("dog") | {"readme": b"", "Thumbs.db": b""})
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    data = prepare(tmp_path)
    assert {*data.train.ids, *data.eval.ids} == {f"{name}/{file}" for name in ("cat", "dog") for file in TAKEN}
    assert all(data.train.images[index].size == (9, 9) for index in range(len(data.train)))
    reasons = {"in no class's folder": 1, "no image": 4, "hidden": 2, "no regular file": 1}
    assert data.describe()["left_out"]["reasons"] == reasons
    assert left_out_line(data.left_out).startswith("left out 8 files: ") and "readme" in left_out_line(data.left_out)


@pytest.mark.parametrize("writer", [miniatures.write_zip, miniatures.write_tar])
def test_archives_have_the_same_rules(tmp_path, data_root, writer):
    files = {}
    for number in range(16):
        files |= {f"Images/class {number:02d}/{name[2:]}": content for name, content in class_files("x").items()}
    archive = writer(tmp_path / "own.zip", files | {"license.txt": b"free", "__MACOSX/Images/a/._b.jpg": b""})
    config = Data(root=str(data_root), archive=str(archive))
    data = prepare_data(config, progress=False)
    assert {name for name in (*data.train.ids, *data.eval.ids) if name.startswith("class_03/")} == {
        f"class_03/{file}" for file in TAKEN
    }
    assert data.left_out["reasons"] == {"no image": 32, "hidden": 16, "not in Images/<class>/": 1}
    assert data.left_out["count"] == 49 and data.left_out["first"][0] == "class_00/notes.txt"


def test_prediction_takes_what_training_takes(tmp_path, capsys):
    write(tmp_path, class_files("x"))
    assert {str(path.relative_to(tmp_path / "x")) for path in find_images([tmp_path / "x"])} == TAKEN
    assert "left out 3 files: " in capsys.readouterr().err
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match="pipe.jpg is no regular file"):
        find_images([tmp_path / "pipe.jpg"])


def test_a_third_part_is_named(tmp_path):
    write(tmp_path, in_classes([f"{half}/{name}" for half in ("train", "eval", "test") for name in ("cat", "dog")]))
    assert left_out_line(prepare(tmp_path).left_out) == "left out 1 file: 1 beside train/ and eval/ (test/)"


def test_nothing_is_said_where_nothing_is_left_out(tmp_path):
    write(tmp_path, {f"{name}/{index}.jpg": b"" for name in ("cat", "dog") for index in range(3)})
    assert left_out_line(prepare(tmp_path).left_out) is None


# names


def test_dollars_in_names_are_no_formulas(tmp_path):
    figure = new_figure(2, 1)
    figure.suptitle("cats for $5 or $\\nosuchcommand{$")
    save_figure(figure, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (220, 110)


def in_classes(names, count: int = 3) -> dict[str, bytes]:
    return {f"{name}/{index}.jpg": encoded("JPEG") for name in names for index in range(count)}


def test_composed_and_decomposed_names_are_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write(tmp_path / "a", in_classes([f"train/{decomposed}", "train/tea", f"eval/{composed}", "eval/tea"]))
    data = prepare(tmp_path / "a")
    assert data.classes == (composed, "tea") and data.train.ids[0] == f"train/{composed}/0.jpg"
    assert data.train.images[0].size == (9, 9)
    write(tmp_path / "b", in_classes([f"train/{composed}", "train/tea", f"eval/{composed}", "eval/tea"]))
    assert prepare(tmp_path / "b").sha256 == data.sha256


def test_classes_of_an_archive_are_composed_too(tmp_path, data_root):
    forms = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    files = {f"Images/{forms[number % 2]}/{number}.jpg": encoded("JPEG") for number in range(4)}
    files |= {f"Images/{name}": content for name, content in in_classes("abcdefghijklmno").items()}
    archive = miniatures.write_zip(tmp_path / "own.zip", files)
    data = prepare_data(Data(root=str(data_root), archive=str(archive)), progress=False)
    assert forms[0] in data.classes and len(data.classes) == 16 and len(data.train) == 15 * 2 + 3


def test_two_names_that_read_the_same_are_refused(tmp_path):
    forms = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    write(tmp_path / "a", in_classes([*forms, "tea"]))
    with pytest.raises(UserError, match="two folders are called café"):
        prepare(tmp_path / "a")
    write(tmp_path / "b", in_classes(["cat", "dog"]) | {f"dog/{form}.jpg": b"" for form in forms})
    with pytest.raises(UserError, match="two files are called café.jpg"):
        prepare(tmp_path / "b")


def test_names_that_are_no_utf8_are_shown_by_their_bytes(tmp_path, data_root):
    write(tmp_path / "set", in_classes([b"\xc3\xa8".decode("utf-8", "surrogateescape"), "dog"]))
    write(
        tmp_path / "set", {os.fsdecode(b"\xb9\xb7/\xc4\xf1.jpg"): encoded("JPEG"), os.fsdecode(b"\xb9\xb7/2.jpg"): b""}
    )
    data = prepare(tmp_path / "set", root=str(data_root), skip_damaged=True)
    assert data.classes == ("\\xb9\\xb7", "dog", "è") and data.skipped == ("\\xb9\\xb7/2.jpg",)
    assert data.train.ids[0] == "\\xb9\\xb7/\\xc4\\xf1.jpg" and data.train.images[0].size == (9, 9)
    "".join([*data.classes, *data.train.ids]).encode()  # as digests, YAML and figures need


def test_a_table_of_predictions_takes_any_name(tmp_path):
    path = tmp_path / os.fsdecode(b"\xb9\xb7.jpg")
    write_predictions(tmp_path / "a.csv", [path], np.array([[0.25, 0.75]]), ["cat", "dog"], 1)
    assert r"\udcb9\udcb7.jpg,dog,0.75" in (tmp_path / "a.csv").read_text(encoding="utf-8")


def test_the_data_of_a_run_is_found_where_the_run_had_it(tmp_path, data_root, monkeypatch):
    """Evaluation and prediction take data.root, data.archive and SIMAM_ARCHIVES as training does."""
    archive = miniatures.write_caltech(tmp_path / "disk" / "101_ObjectCategories.tar.gz")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "link").symlink_to(archive.parent)
    monkeypatch.setenv("SIMAM_ARCHIVES", str(tmp_path / "named"))
    run = RunFolder(tmp_path / "run")
    for number, archive_key in enumerate((None, str(archive))):
        data = Data(root=str(data_root / str(number)), archive=archive_key, allow_miniature=True)
        trained = Trained(run, run.best, Experiment(name="a", data=data), (), None, "cpu")
        assert len(trained.data.train) == 64 and (data_root / str(number)).is_dir()


@pytest.mark.parametrize(
    ("halves", "words"),
    [
        (("train", "val"), "rename val/ to eval/"),
        (("train", "test"), "rename test/ to eval/"),
        (("train", "val", "test"), "rename val/ to eval/"),
        (("Train", "Test"), "rename Train/ to train/ and Test/ to eval/"),
    ],
)
def test_halves_of_other_names_are_recognised(tmp_path, halves, words):
    write(tmp_path, in_classes([f"{half}/{name}" for half in halves for name in ("cat", "dog")]))
    with pytest.raises(UserError, match=f": {words}; "):
        prepare(tmp_path)
