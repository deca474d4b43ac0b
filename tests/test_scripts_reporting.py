"""The commands that look at data and at runs, each run as a user does; and the curves that they draw."""

import csv
import json
import shutil

import matplotlib.colors as colours
import numpy as np
import pytest
from commands import ROOT, assert_refused, script
from PIL import Image

from simam_repro.config import load_config
from simam_repro.errors import UserError
from simam_repro.reporting import curves as curves_module
from simam_repro.reporting import curves_path, plot_curves
from simam_repro.reporting.predictions import prediction_line, top_classes
from simam_repro.runs import RunFolder

CONFIG = ROOT / "configs/caltech_towernet_simam.yaml"


@pytest.fixture(scope="module")
def options(tmp_path_factory, caltech_archive):
    """What points a config of Caltech101-16 at the miniature, with small images."""
    root = tmp_path_factory.mktemp("reporting")
    (root / "archives").mkdir()
    shutil.copy(caltech_archive, root / "archives")
    keys = (f"data.root={root}", "data.allow_miniature=true", "data.image_size=128")
    return [part for key in keys for part in ("-o", key)]


@pytest.fixture(scope="module")
def run(options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "on"
    done = script("train", "-c", CONFIG, "--smoke", "--run-dir", folder, *options)
    assert done.returncode == 0, done.stderr
    return RunFolder(folder)


def written(done, label: str) -> list[str]:
    """The paths that a command printed behind `label`."""
    assert done.returncode == 0, done.stderr
    return [line.removeprefix(f"{label}: ") for line in done.stdout.splitlines() if line.startswith(f"{label}: ")]


def size_of(figure) -> tuple[int, int]:
    with Image.open(figure) as image:
        return image.size


def test_evaluate(run):
    done = script("evaluate", run.path, "--batch-size", 5)
    assert written(done, "written") == [f"{run.path / 'evaluation.json'}, {run.figures / 'confusion.png'}"]
    evaluation = json.loads((run.path / "evaluation.json").read_text())
    assert f"top-1 accuracy  {evaluation['top1']:.2%}" in done.stdout
    assert evaluation["images"] == run.read_result()["data"]["eval_images"]
    assert evaluation["throughput"]["network"]["batch_size"] == 5


def test_evaluate_refuses(run):
    assert_refused(script("evaluate", run.figures), "figures", "neither a run folder")
    assert_refused(script("evaluate", run.path, "--batch-size", 0), "--batch-size", "at least 1")
    assert_refused(script("evaluate", run.path, "--device", "tpu"), "--device", "tpu", "gpu:N")


def test_predict_files_and_folders(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    images = {"alpha.png": pixels, "sub/grey.png": pixels[..., 0], "sub/colour.png": pixels[..., :3]}
    for name, values in images.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / name)
    # An option may stand between the images.
    done = script("predict", run.path, "alpha.png", "--top", 2, "sub", "--csv", "out/table.csv", cwd=tmp_path)
    assert written(done, "table") == ["out/table.csv"]
    with open(tmp_path / "out/table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["alpha.png", "sub/colour.png", "sub/grey.png"]
    assert list(rows[0]) == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    for row, line in zip(rows, done.stdout.splitlines()):
        assert 1 >= float(row["probability_1"]) >= float(row["probability_2"]) >= 0
        assert line.startswith(row["image"]) and row["class_1"] in line and row["class_2"] in line


def test_a_damaged_image_among_others_is_named_at_the_end(run, tmp_path):
    for name in ("a", "b", "c"):
        Image.new("RGB", (30, 20), "red").save(tmp_path / f"{name}.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    for options, code in (([], 1), (["--skip-damaged"], 0)):
        done = script("predict", run.path, tmp_path, "--csv", tmp_path / "table.csv", *options)
        assert done.returncode == code and "1 of 3 images" in done.stderr and str(tmp_path / "b.png") in done.stderr
        assert "Traceback" not in done.stderr
        shown = [line.split()[0] for line in done.stdout.splitlines()]
        assert shown == [str(tmp_path / "a.png"), str(tmp_path / "c.png"), "table:"]
        assert len((tmp_path / "table.csv").read_text().splitlines()) == 3


def test_predict_eval_grid(run, tmp_path):
    done = script("predict", run.path, "--eval-grid")
    assert written(done, "figure") == [str(run.figures / "eval_grid.png")]
    # 18 images in 6 columns and 3 rows.
    width, height = size_of(run.figures / "eval_grid.png")
    assert width > 1.5 * height


def test_predict_refuses(run, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    assert_refused(script("predict", run.path, tmp_path / "text.jpg"), "text.jpg is no image of the kinds JPEG")
    assert_refused(script("predict", run.path, "nothing.jpg"), "nothing.jpg does not exist")
    for arguments, words in (
        ([], "either images or --eval-grid"),
        (["a.png", "--eval-grid"], "either images or --eval-grid"),
        (["a.png", "--top", "0"], "--top"),
        (["a.png", "--output", "b.png"], "--output is the figure of --eval-grid"),
        (["a.png", "--csv", tmp_path], "--csv needs images, and a file name"),
        (["--eval-grid", "--output", "grid.jpg"], "ends in .png"),
    ):
        assert_refused(script("predict", run.path, *arguments), words)


def test_show_data(options, tmp_path):
    done = script("show_data", "-c", CONFIG, *options, "--index", 3, "--output-dir", "seen", cwd=tmp_path)
    assert written(done, "figure") == ["seen/classes.png", "seen/augmentation.png"]
    width, height = size_of(tmp_path / "seen/classes.png")
    assert 0.8 < width / height < 1.0  # 4 x 4, with titles
    width, height = size_of(tmp_path / "seen/augmentation.png")
    assert 1.6 < width / height < 2.0  # 6 x 3, with titles


def test_show_data_refuses_an_index_that_is_not_there(options, tmp_path):
    done = script("show_data", "-c", CONFIG, *options, "--index", 64, "--output-dir", tmp_path)
    assert_refused(done, "index 64", "0 to 63")
    assert not list(tmp_path.iterdir())


def write_run(folder, overrides=(), epochs=3, config=CONFIG):
    """A folder with the config and the metrics of a run."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    run.config.write_text(load_config(config, overrides).to_yaml())
    keys = ("train_nll", "eval_loss", "train_acc", "eval_acc")
    records = [{"epoch": epoch, **{key: epoch / 10 for key in keys}} for epoch in range(1, epochs + 1)]
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    return run.path


@pytest.fixture
def figures(monkeypatch):
    """Catches the figures that plot_curves draws."""
    drawn = []
    monkeypatch.setattr(curves_module, "save_figure", lambda figure, path: drawn.append(figure))
    return drawn


@pytest.fixture
def pairs(tmp_path):
    """Runs of two seeds, attention off and on: [without 0, without 1, with 0, with 1]."""
    halves = {"none": "without", "simam": "with"}
    return [
        write_run(tmp_path / name / str(seed), [f"model.attention={attention}", f"name={name}", f"seed={seed}"])
        for attention, name in halves.items()
        for seed in (0, 1)
    ]


def test_plot_curves(run, tmp_path):
    other = shutil.copytree(run.path, tmp_path / "runs/other")
    again = shutil.copytree(run.path, tmp_path / "runs/again")
    done = script("plot_curves", "runs/other", "runs/again", cwd=tmp_path)
    assert written(done, "figure") == ["runs/curves.png"]
    assert size_of(tmp_path / "runs/curves.png")[0] > 1000
    (other / "metrics.jsonl").write_text("")
    (again / "metrics.jsonl").unlink()
    assert_refused(script("plot_curves", other), "has no finished epoch yet")
    with pytest.raises(UserError, match="again has no metrics.jsonl"):
        plot_curves([again], tmp_path / "figure.png")


def test_curves_path(tmp_path):
    assert curves_path([tmp_path / "a/seed0", tmp_path / "b/seed0"]) == tmp_path / "curves.png"
    assert curves_path([tmp_path / "a/seed0", tmp_path / "a/seed1"]) == tmp_path / "a/curves.png"
    assert curves_path([tmp_path / "a/seed0"]) == tmp_path / "a/seed0/figures/curves.png"
    assert str(curves_path(["/one/run", "/other/run"])) == "curves.png"


def test_curves_show_every_value(pairs, figures):
    plot_curves(pairs, "unused.png")
    panels = figures[0].axes
    assert [panel.get_ylabel() for panel in panels] == [
        "train cross-entropy (nats)", "train accuracy", "eval cross-entropy (nats)", "eval accuracy",
    ]  # fmt: skip
    for panel in panels:
        assert [line.get_label() for line in panel.get_lines()] == [
            "without, seed 0", "without, seed 1", "with, seed 0", "with, seed 1",
        ]  # fmt: skip
        for line in panel.get_lines():
            np.testing.assert_allclose(line.get_xydata(), [[1, 0.1], [2, 0.2], [3, 0.3]])


def test_a_pair_shares_its_colour_and_differs_in_its_line(pairs, figures):
    plot_curves(pairs, "unused.png")
    off0, off1, on0, on1 = figures[0].axes[0].get_lines()
    for off, on in ((off0, on0), (off1, on1)):
        assert off.get_color() == on.get_color() and off.get_marker() == on.get_marker()
        assert (off.get_linestyle(), on.get_linestyle()) == ("--", "-")
        assert off.get_markerfacecolor() == "white" != on.get_markerfacecolor()
    assert on0.get_color() != on1.get_color() and on0.get_marker() != on1.get_marker()
    # The legend has two columns and fills them one after the other: a pair in each row.
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert legend == ["without, seed 0", "without, seed 1", "with, seed 0", "with, seed 1"]


def test_colours_differ_in_lightness():
    shades = [np.dot(colours.to_rgb(colour), (0.299, 0.587, 0.114)) for colour in curves_module.COLOURS[:4]]
    assert min(abs(a - b) for i, a in enumerate(shades) for b in shades[:i]) > 0.03
    assert len(set(curves_module.MARKERS)) == len(set(curves_module.COLOURS)) == 10


def test_more_than_two_arms_have_a_look_each(tmp_path, figures):
    runs = [
        write_run(tmp_path / arm / str(seed), [f"model.attention={arm}", f"name={arm}", f"seed={seed}"])
        for seed in (0, 1)
        for arm in ("simam", "none", "se")
    ]
    plot_curves(runs, "unused.png")
    lines = figures[0].axes[0].get_lines()
    assert len(lines) == 6 and len({line.get_color() for line in lines}) == 3
    assert [line.get_color() for line in lines[:3]] == [line.get_color() for line in lines[3:]]
    assert [line.get_linestyle() for line in lines[:3]] == ["-", "--", "-"]
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert sorted(legend) == ["SE", "SimAM", "none"]


def test_a_repeated_half_is_no_pair(tmp_path, figures):
    first, second = (write_run(tmp_path / name) for name in ("first", "second"))
    plot_curves([first, second], "unused.png")
    lines = figures[0].axes[0].get_lines()
    assert lines[0].get_color() != lines[1].get_color()
    # The same name and seed: the folders tell them apart.
    assert [line.get_label().rsplit("/")[-1] for line in lines] == ["first", "second"]


def test_legend_stays_clear_of_the_panels(tmp_path, figures):
    long_name = "a_very_long_name_of_an_experiment_that_someone_chose_without_thinking_of_legends"
    runs = [write_run(tmp_path / str(seed), [f"seed={seed}", f"name={long_name}"]) for seed in range(10)]
    plot_curves(runs, "unused.png")
    figure = figures[0]
    figure.draw_without_rendering()
    legend, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert not any(legend.overlaps(panel.get_tightbbox()) for panel in figure.axes)
    assert whole.x0 <= legend.x0 and legend.x1 <= whole.x1 and whole.y0 <= legend.y0


def test_stand_in_data_is_labelled(tmp_path, figures):
    real = write_run(tmp_path / "real")
    stand_in = write_run(tmp_path / "stand_in", ["data.dataset=shapes16"])
    plot_curves([real], "unused.png")
    plot_curves([real, stand_in], "unused.png")
    titles = [figure.get_suptitle() for figure in figures]
    assert "stand-in" not in titles[0] and "stand-in" in titles[1]


def test_most_probable_classes_by_hand():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])
    best = top_classes(probabilities, ("a", "b", "c"), 2)
    assert best == [[("b", 0.5), ("c", 0.3)], [("a", 0.4), ("c", 0.4)]]
    lines = [
        prediction_line(path, row, ("a", "b", "c"), 9, 8) for path, row in zip(("x.png", "long.png"), probabilities)
    ]
    assert lines == ["x.png     b  50.0%  c  30.0%  a  20.0%", "long.png  a  40.0%  c  40.0%  b  20.0%"]
