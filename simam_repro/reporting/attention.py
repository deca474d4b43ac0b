"""Figures of where a network looks: weight maps of its attention layers, Grad-CAM of the arms."""

from pathlib import Path

import numpy as np
from matplotlib.colors import Normalize
from PIL import Image

from simam_repro.config import ARM_KEYS
from simam_repro.data import transforms
from simam_repro.data.listing import readable
from simam_repro.errors import UserError
from simam_repro.evaluation import find_images, open_image
from simam_repro.evaluation.arms import NO_ATTENTION, arm_title
from simam_repro.evaluation.attention import grad_cam, grad_cam_layer, weight_maps
from simam_repro.reporting.style import new_figure, save_figure, set_title
from simam_repro.reporting.visualdl import log_figure
from simam_repro.runs import RunFolder, find_runs

# Lightness rises with the value, so the maps read in greyscale too.
COLOURS = "inferno"
OPACITY = 0.6
# A column spans at least this much, so that rounding in a flat map does not look like a pattern.
SMALLEST_SPAN = 0.02
FONT, LABEL_LENGTH = 9, 28
EVAL_IMAGES, MOST_IMAGES = 4, 32


def write_attention_figures(run, beside=(), files=(), layers=None, cam_layer=None, output_dir=None) -> list[Path]:
    """Write attention_maps.png and grad_cam.png of a network with attention; add them to its VisualDL log.

    Args:
        run: `simam_repro.evaluation.Trained` with attention.
        beside: other arms, each `Trained`, for more columns of Grad-CAM; they come first.
        files: image files and folders of them; none takes EVAL_IMAGES images of the eval set, evenly spread.
        layers: names of attention layers; None takes all.
        cam_layer: name of the layer for Grad-CAM; None takes the last feature map.
        output_dir: where to; None is the run's `figures/`.
    Returns:
        The paths of the two figures.
    Raises:
        UserError: a run without attention, arms that do not belong together, an unknown layer,
            a file that is not an image, or more than MOST_IMAGES of them.
    """
    _check_arms(run, beside)
    data = run.experiment.data
    opened, labels = _open_files(files) if files else _eval_images(run.data)
    images = np.stack([transforms.eval_image(image, data.image_size) for image in opened])
    maps = weight_maps(run.network, _normalised(run, images), layers)
    cams = {
        arm_title(arm.experiment): grad_cam(arm.network, grad_cam_layer(arm, cam_layer), _normalised(arm, images))
        for arm in (*beside, run)
    }

    folder = Path(output_dir or run.run.figures)
    maps_path, cam_path = folder / "attention_maps.png", folder / "grad_cam.png"
    plot_weight_maps(images, labels, maps, maps_path, run.stand_in, arm_title(run.experiment))
    plot_grad_cam(images, labels, cams, run.classes, cam_path, run.stand_in)
    for path in (maps_path, cam_path):
        log_figure(run.run, f"attention/{path.stem}", path)
    return [maps_path, cam_path]


def arms_beside(run: RunFolder) -> list[RunFolder]:
    """The runs in the folder of `run`'s sweep that differ from it in attention only: one of each, the plain first."""
    ours = run.read_experiment()
    arms = {}
    for other in find_runs(run.path.resolve().parent.parent):
        theirs = other.read_experiment() if other.best.is_dir() else ours
        if theirs.model.attention != ours.model.attention and theirs.recipe(ARM_KEYS) == ours.recipe(ARM_KEYS):
            arms.setdefault(theirs.model.attention, (theirs, other))
    plain_first = sorted(arms.values(), key=lambda arm: arm[0].model.attention.name != NO_ATTENTION)
    return [other for _, other in plain_first]


def upsample(maps: np.ndarray, size: int) -> np.ndarray:
    """float [N, h, w] -> float32 [N, size, size], bilinear, the outer half cells constant."""
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in maps]
    return np.stack([np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR)) for plane in planes])


def plot_weight_maps(
    images: np.ndarray, labels, maps: dict[str, np.ndarray], path, stand_in: bool = False, title: str = ""
) -> None:
    """Write a PNG: a row an image, a column an attention layer; the images of a column share a colour scale.

    Args:
        images: uint8 [N, S, S, 3], as the network saw them before normalisation.
        labels: N texts.
        maps: {layer name: float [N, h, w]}, see `simam_repro.evaluation.attention.weight_maps`.
        stand_in: label the figure as made with stand-in data.
    """
    figure, panels, bars = _image_grid(images, labels, len(maps), row_height=2.0)
    for column, (name, planes) in enumerate(maps.items()):
        scale = Normalize(planes.min(), max(planes.max(), planes.min() + SMALLEST_SPAN))
        for row, plane in enumerate(upsample(planes, images.shape[1])):
            drawn = _overlay(panels[row, column], images[row], plane, scale)
        panels[0, column].set_title(f"{name}\n{_size(planes, 'one place')}", fontsize=FONT)
        ticks = np.linspace(scale.vmin, scale.vmax, 3)
        _colour_scale(drawn, bars[column], ticks, [f"{tick:.2f}" for tick in ticks], "mean weight")
    set_title(figure, title.replace("$", r"\$"), stand_in)
    save_figure(figure, path)


def plot_grad_cam(images: np.ndarray, labels, cams: dict, classes, path, stand_in: bool = False) -> None:
    """Write a PNG: a row an image, a column a network; each map from 0 to its own maximum.

    Args:
        images: uint8 [N, S, S, 3].
        labels: N texts.
        cams: {column title: `simam_repro.evaluation.attention.GradCam`}.
        classes: the names of the classes.
        stand_in: label the figure as made with stand-in data.
    """
    figure, panels, bars = _image_grid(images, labels, len(cams), row_height=2.3)
    for column, (name, cam) in enumerate(cams.items()):
        for row, plane in enumerate(upsample(cam.maps, images.shape[1])):
            # Each map by its own maximum; one without any evidence stays dark.
            drawn = _overlay(panels[row, column], images[row], plane / (plane.max() or 1.0), Normalize(0, 1))
            guess = f"{classes[cam.classes[row]]} {cam.probabilities[row]:.0%}"
            guess += "" if plane.max() > 0 else ": no evidence"
            heading = f"{name}\n{_size(cam.maps, 'shows no place')}\n" if row == 0 else ""
            panels[row, column].set_title(heading + guess, fontsize=FONT)
        _colour_scale(drawn, bars[column], [0, 1], ["0", "maximum"], "Grad-CAM, predicted class")
    set_title(figure, "", stand_in)
    save_figure(figure, path)


def _image_grid(images, labels, columns: int, row_height: float):
    """A figure with the labelled images in its first column; its other panels [N, columns]; a place below
    each of these columns for its colour scale [columns]."""
    rows = len(images)
    figure = new_figure(max(2.1 * (1 + columns), 5), row_height * rows + 1.2)
    axes = figure.subplots(rows + 1, 1 + columns, squeeze=False, height_ratios=[1] * rows + [0.06])
    for panel in axes[:rows].flat:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_frame_on(False)
    axes[rows, 0].axis("off")
    for panel, image, label in zip(axes[:, 0], images, labels):
        panel.imshow(image)
        short = label if len(label) <= LABEL_LENGTH else f"{label[: LABEL_LENGTH - 3]}..."
        panel.set_ylabel(short, fontsize=FONT, parse_math=False)
    return figure, axes[:rows, 1:], axes[rows, 1:]


def _colour_scale(drawn, axes, ticks, labels, title: str) -> None:
    bar = axes.figure.colorbar(drawn, cax=axes, orientation="horizontal")
    bar.set_ticks(ticks, labels=labels)
    bar.set_label(title, fontsize=FONT)
    axes.tick_params(labelsize=FONT)
    # The outer labels stay within their column.
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")


def _overlay(panel, image: np.ndarray, plane: np.ndarray, scale: Normalize):
    """The map in colour over the image in grey."""
    panel.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    return panel.imshow(plane, cmap=COLOURS, norm=scale, alpha=OPACITY)


def _size(maps: np.ndarray, at_one: str) -> str:
    """ "8x8 map"; a 1x1 map also says what that means."""
    height, width = maps.shape[1:]
    return f"{height}x{width} map" + (f": {at_one}" if height == width == 1 else "")


def _check_arms(run, beside) -> None:
    if run.experiment.model.attention.name == NO_ATTENTION:
        others = arms_beside(run.run)
        raise UserError(
            f"{run.run.path} has model.attention: {NO_ATTENTION}; weight maps need a run with attention"
            + (f", for example {others[0].path}" if others else "")
        )
    for other in beside:
        for what, get in (
            ("model.backbone", lambda arm: arm.experiment.model.backbone),
            ("data.image_size", lambda arm: arm.experiment.data.image_size),
            ("the classes", lambda arm: arm.classes),
        ):
            if get(run) != get(other):
                raise UserError(f"{run.run.path} and {other.run.path} are no arms of a comparison: {what} differ")
    titles = [arm_title(arm.experiment) for arm in (*beside, run)]
    if twice := [title for title in titles if titles.count(title) > 1]:
        raise UserError(f"{twice[0]} is there twice; each arm needs to be another")


def _open_files(paths):
    files = find_images(paths)
    if len(files) > MOST_IMAGES:
        raise UserError(f"{len(files)} images are too many for one figure; give at most {MOST_IMAGES}")
    return [open_image(file) for file in files], [readable(file.name) for file in files]


def _eval_images(data):
    chosen = data.eval.spread(EVAL_IMAGES)
    return [data.eval.images[index] for index in chosen], [data.classes[data.eval.labels[index]] for index in chosen]


def _normalised(half, images: np.ndarray) -> np.ndarray:
    data = half.experiment.data
    return transforms.normalise(images, data.mean, data.std)
