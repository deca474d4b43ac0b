"""shapes16: the embedded stand-in data set, 16 classes of generated images.

Position, size, rotation, colours, background and noise vary; the classes differ in shape or texture,
never in colour. It is written as a zip of `Images/<class>/<file>.jpg`, and then walks the way of real
data: archive, check, split, loader. A result on it says that the suite works, nothing about attention.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from simam_repro.data import class_folders
from simam_repro.data.prepared import PreparedData
from simam_repro.data.sets import DataSet
from simam_repro.storage import atomic_path

IMAGES_PER_CLASS = 60
IMAGE_SIDE = 144
SEED = 16
VERSION = 1  # to be raised when the same parameters draw other images
_OVERSAMPLE = 2


def _radius(u, v):
    return np.hypot(u, v)


def _polygon(u, v, corners, inner):
    """A regular polygon (inner=cos(pi/corners)) or star (smaller inner) of circumradius 1."""
    sector = 2 * np.pi / corners
    angle = np.abs((np.arctan2(v, u) + sector / 2) % sector - sector / 2)
    # The edge runs from the corner (1, 0) to the point at radius `inner`, half a sector on.
    x, y = inner * np.cos(sector / 2), inner * np.sin(sector / 2)
    radius = _radius(u, v)
    return radius * np.cos(angle) * y + radius * np.sin(angle) * (1 - x) < y


# Each draws on the plane: (u, v) in units of the figure's radius -> inside or not.
FIGURES = {
    "disc": lambda u, v: _radius(u, v) < 0.9,
    "ring": lambda u, v: np.abs(_radius(u, v) - 0.75) < 0.2,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.8,
    "triangle": lambda u, v: _polygon(u, v, 3, 0.5),
    "star": lambda u, v: _polygon(u, v, 5, 0.4),
    "cross": lambda u, v: (np.minimum(np.abs(u), np.abs(v)) < 0.25) & (np.maximum(np.abs(u), np.abs(v)) < 0.9),
    "crescent": lambda u, v: (_radius(u, v) < 0.95) & (_radius(u - 0.5, v) > 0.75),
    "bars": lambda u, v: (np.abs(np.abs(u) - 0.55) < 0.2) & (np.abs(v) < 0.9),
    "stripes": lambda u, v: (_radius(u, v) < 1) & (np.sin(12 * u) > 0),
    "checkers": lambda u, v: (_radius(u, v) < 1) & (np.sin(8 * u) * np.sin(8 * v) > 0),
    "dots": lambda u, v: (_radius(u, v) < 1) & (np.cos(11 * u) + np.cos(11 * v) > 0.9),
    "mesh": lambda u, v: (_radius(u, v) < 1) & (np.minimum(np.abs(np.sin(6 * u)), np.abs(np.sin(6 * v))) < 0.35),
    "target": lambda u, v: (_radius(u, v) < 1) & (np.sin(14 * _radius(u, v)) > 0),
    "rays": lambda u, v: (_radius(u, v) < 1) & (np.sin(9 * np.arctan2(v, u)) > 0),
    "waves": lambda u, v: (_radius(u, v) < 1) & (np.sin(12 * u + 2.5 * np.sin(7 * v)) > 0),
    "spiral": lambda u, v: (_radius(u, v) < 1) & (np.sin(11 * _radius(u, v) + 2 * np.arctan2(v, u)) > 0),
}


def prepare(config, root: Path, archive_folders, warn, progress: bool) -> PreparedData:
    """shapes16, generated into `<root>/archives/` on first use, in a place for each set of parameters."""
    key = f"shapes16-v{VERSION}-{IMAGES_PER_CLASS}x{IMAGE_SIDE}-seed{SEED}"
    folder = root / key

    def unpack() -> None:
        archive = root / "archives" / f"{key}.zip"
        write_archive(archive, IMAGES_PER_CLASS, SEED, progress)
        class_folders.unpack(
            archive, folder, parent="Images", check=lambda images: None,
            entries={"official": True, "stand_in": True}, progress=progress,
        )  # fmt: skip

    return class_folders.prepare(folder, unpack, "shapes16", skip_damaged=False, split=config.split)


def write_archive(
    path: Path, images_per_class: int = IMAGES_PER_CLASS, seed: int = SEED, progress: bool = True
) -> None:
    """Write the zip; the same arguments give the same bytes (with the same JPEG encoder)."""
    jobs = [(label, number) for label in range(len(FIGURES)) for number in range(images_per_class)]
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for label, number in tqdm(jobs, desc="draw shapes16", unit=" images", disable=None if progress else True):
            name = list(FIGURES)[label]
            buffer = io.BytesIO()
            draw(name, np.random.default_rng([seed, label, number])).save(buffer, "JPEG", quality=90)
            entry = zipfile.ZipInfo(f"Images/{name}/{name}_{number:04d}.jpg", date_time=(2021, 7, 18, 0, 0, 0))
            archive.writestr(entry, buffer.getvalue())


def draw(name: str, rng: np.random.Generator, side: int = IMAGE_SIDE) -> Image.Image:
    """One RGB image of class `name`, side x side pixels."""
    mask = _mask(FIGURES[name], rng, side)[..., None]
    foreground, *corners = _colours(rng)
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j][..., None]
    background = (1 - x) * (1 - y) * corners[0] + x * (1 - y) * corners[1] + y * corners[2]
    noise = rng.normal(0, rng.uniform(2, 10), (side, side, 3))
    pixels = mask * foreground + (1 - mask) * background + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _mask(figure, rng: np.random.Generator, side: int) -> np.ndarray:
    """The figure at a random place, size and angle: float [side, side], smooth at its edges."""
    radius = side * rng.uniform(0.32, 0.48)
    centre = rng.uniform(radius * 0.9, side - radius * 0.9, 2)
    angle = np.deg2rad(rng.uniform(-20, 20))
    fine = side * _OVERSAMPLE
    y, x = (np.mgrid[0:fine, 0:fine] + 0.5) / _OVERSAMPLE
    x, y = (x - centre[0]) / radius, (y - centre[1]) / radius
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside = figure(u, v).astype(np.float64)
    return inside.reshape(side, _OVERSAMPLE, side, _OVERSAMPLE).mean((1, 3))


def _colours(rng: np.random.Generator) -> list[np.ndarray]:
    """A foreground, and three background corners that each differ clearly from it in brightness."""
    luma = np.array([0.299, 0.587, 0.114])
    foreground = rng.uniform(0, 255, 3)
    corners: list[np.ndarray] = []
    while len(corners) < 3:
        colour = rng.uniform(0, 255, 3)
        if abs((colour - foreground) @ luma) > 70:
            corners.append(colour)
    # All corners on one side of the foreground, so that the gradient between them never meets it.
    side = np.sign((corners[0] - foreground) @ luma)
    return [foreground, *(c if (c - foreground) @ luma * side > 0 else corners[0] for c in corners)]


DATASET = DataSet("shapes16", prepare, classes=len(FIGURES), takes=("split",), stand_in=True)
