"""A run and the data that it came from: what has changed since is named and refused, or measured as other data."""

import shutil

import numpy as np
import pytest
from photos import COLOURS, experiment, write_classes, write_image
from PIL import Image

from simam_repro.cli.commands import evaluate as evaluate_command
from simam_repro.data import prepare_data
from simam_repro.errors import UserError
from simam_repro.evaluation import evaluate, load_trained, other_eval_set
from simam_repro.reporting import write_evaluation, write_figures
from simam_repro.runs import RUN_FIGURES, RunFolder, data_differences
from simam_repro.storage import disk_explained, read_json, write_json
from simam_repro.training import fit


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    write_classes(root / "photos")
    fit(experiment(root), root / "run")
    return root


@pytest.fixture
def photos(made, tmp_path):
    """A run of the photos, whose config names the folder that the test may change; and that folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    run = RunFolder(tmp_path / "run")
    run.config.write_text(run.config.read_text().replace(str(made), str(tmp_path)))
    return run, tmp_path / "photos"


def rename(photos):
    (photos / "dog").rename(photos / "Dog")


def add_class(photos):
    write_classes(photos, ["emu"])


def add_image(photos):
    write_image(photos / "owl" / "more.png", COLOURS["owl"], 9)


def replace_image(photos):
    """As an upscaler does: other pixels under the same name."""
    Image.open(photos / "owl" / "0.png").resize((64, 64)).save(photos / "owl" / "0.png")


CHANGES = {
    "renamed": (rename, "class dog is gone; class Dog is new"),
    "added": (add_class, "class emu is new"),
    "images": (add_image, r"images of photos are others .*12 \+ 6 images, now 13 \+ 6"),
    "pixels": (replace_image, "image files of photos have the same names and other sizes"),
}


def content_of(run: RunFolder) -> dict:
    files = [path for path in run.path.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reader", ["evaluate", "figures", "resume"])
def test_changed_data_is_named_and_refused(reader, change, photos):
    run, folder = photos
    make, words = CHANGES[change]
    make(folder)
    if reader == "resume":
        run.result.unlink()
    before = content_of(run)
    with pytest.raises(UserError, match=f"was trained on other data than there is now: .*{words}"):
        if reader == "evaluate":
            evaluate(load_trained(run.path, device="cpu"), budget_s=0)
        elif reader == "figures":
            write_figures(run.path)
        else:
            fit(run.read_experiment(), run.path, resume=True)
    assert content_of(run) == before


def test_an_image_added_while_it_trained_disturbs_no_figure(photos):
    run, folder = photos
    data = prepare_data(run.read_experiment().data)  # as train.py has it from the start
    shutil.rmtree(run.figures, ignore_errors=True)
    add_image(folder)
    write_figures(run.path, data)
    assert all((run.figures / name).is_file() for name in RUN_FIGURES)


def test_an_older_run_has_its_data_in_its_result(photos):
    run, folder = photos
    run.data.unlink()
    assert evaluate(load_trained(run.path, device="cpu"), budget_s=0)["images"] == 6
    rename(folder)
    with pytest.raises(UserError, match="class dog is gone"):
        evaluate(load_trained(run.path, device="cpu"), budget_s=0)
    # An unfinished one knows nothing, and goes on; from then on it does.
    run.result.unlink()
    fit(run.read_experiment(), run.path, resume=True)
    assert "Dog" in run.read_data()["class_names"]


def test_a_run_that_knows_no_sizes_goes_on_with_its_names(photos):
    run, folder = photos
    for file in (run.data, run.result):
        content = read_json(file)
        (content if file == run.data else content["data"]).pop("sizes_sha256")
        write_json(file, content)
    replace_image(folder)
    assert evaluate(load_trained(run.path, device="cpu"), budget_s=0)["images"] == 6
    run.data.unlink()
    assert evaluate(load_trained(run.path, device="cpu"), budget_s=0)["images"] == 6


def test_a_cut_data_file_is_told_and_written_anew(photos, capsys):
    run, _ = photos
    run.result.unlink()
    whole = run.data.read_text()
    run.data.write_text(whole[:50])
    fit(run.read_experiment(), run.path, resume=True)
    assert "data.json" in capsys.readouterr().err and run.data.read_text() == whole


def test_other_data_is_measured_by_class_name(photos, tmp_path):
    """Other folders in another order, one class less and one that the network does not know."""
    run, _ = photos
    own = evaluate(load_trained(run.path, device="cpu"), budget_s=0)
    write_evaluation(load_trained(run.path, device="cpu"), own)
    before = content_of(run)
    write_classes(tmp_path / "more" / "other", ["owl", "cat", "ant"], images=10)
    data = experiment(tmp_path).data.model_copy(update={"folder": str(tmp_path / "more" / "other")})
    trained = load_trained(run.path, device="cpu")
    found = evaluate(trained, budget_s=0, eval_set=other_eval_set(trained, data))
    matrix = np.array(found["confusion_matrix"])
    assert found["classes"] == ["cat", "dog", "owl"] and matrix.sum(axis=1).tolist() == [2, 0, 2]
    assert found["left_out"] == {"ant": 2} and found["recorded_top1"] is None
    # Against the network alone, image by image.
    from simam_repro.evaluation import predict_images

    images = [Image.open(tmp_path / "more" / "other" / name) for name in found_eval_names(data)]
    guesses = predict_images(trained, images).argmax(axis=1)
    truths = [["cat", "dog", "owl"].index(name.split("/")[0]) for name in found_eval_names(data)]
    assert found["top1"] == np.mean(guesses == np.array(truths))
    numbers, figure = write_evaluation(trained, found)
    assert numbers.name == f"evaluation_on_other_{found['data']['sha256'][:8]}.json"
    after = content_of(run)
    assert {path: after[path] for path in before} == before and set(after) - set(before) == {numbers, figure}
    assert read_json(numbers)["data_config"]["folder"] == data.folder


def found_eval_names(data) -> list[str]:
    from simam_repro.data import prepare_data

    return [name for name in prepare_data(data).eval.ids if not name.startswith("ant/")]


def test_other_data_without_a_known_class_is_refused(photos, tmp_path):
    run, _ = photos
    write_classes(tmp_path / "other", ["ant", "bee"])
    data = experiment(tmp_path).data.model_copy(update={"folder": str(tmp_path / "other")})
    with pytest.raises(UserError, match=r"knows none of the classes of other \(ant, bee\); it knows cat, dog, owl"):
        other_eval_set(load_trained(run.path, device="cpu"), data)


def test_the_command_takes_a_config(photos, tmp_path, monkeypatch, capsys):
    run, folder = photos
    add_image(folder)
    (tmp_path / "other.yaml").write_text(
        f"name: other\ndata: {{dataset: folder, folder: {folder}, root: {tmp_path}/data}}\n"
    )
    monkeypatch.setattr(
        "sys.argv", ["evaluate.py", str(run.path), "--device", "cpu", "--data", str(tmp_path / "other.yaml")]
    )
    evaluate_command.main()
    assert "evaluation_on_photos_" in capsys.readouterr().out and not (run.path / "evaluation.json").exists()


def test_numbers_are_told_before_they_are_written(photos, monkeypatch, capsys):
    """The folder may be a colleague's."""
    run, _ = photos
    (run.path / "evaluation.json").mkdir()
    monkeypatch.setattr("sys.argv", ["evaluate.py", str(run.path), "--device", "cpu"])
    with pytest.raises(UserError, match="evaluation.json cannot be used"), disk_explained():
        evaluate_command.main()
    assert "top-1 accuracy" in capsys.readouterr().out


def test_differences_are_few_words():
    one = {"name": "x", "sha256": "a" * 64, "class_names": [f"c{number}" for number in range(9)]}
    assert data_differences(one, one) == []
    told = data_differences(one, {**one, "class_names": ["c0"]})
    assert told == ["the classes c1, c2, c3, c4, c5 and 3 more are gone"]
    assert data_differences(one, {**one, "class_names": one["class_names"][::-1]}) == [
        "the classes are in another order"
    ]
    assert len(data_differences({**one, "class_names": None}, {**one, "sha256": "b" * 64})) == 1
