"""A trained network as a folder to take away: weights, config, a model card written from the run, and an ONNX file."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import paddle

from simam_repro.data.transforms import eval_image, normalise
from simam_repro.errors import RunError, UserError
from simam_repro.evaluation.export import export
from simam_repro.evaluation.trained import Trained
from simam_repro.storage import atomic_folder, write_json, write_text

WEIGHTS, CARD, ONNX, CHECK = "weights.safetensors", "README.md", "model.onnx", "onnx_check.json"
CONVERTER = Path(__file__).with_name("onnx_converter.py")
# ONNX runtimes add in another order; larger differences than this share of the largest logit are another function.
ONNX_TOLERANCE = 1e-3
IMAGES = 16


def publish(trained: Trained, folder, card: str, onnx_python: Path | None) -> dict | None:
    """Write `folder`, whole or not at all.

    Args:
        card: the model card, Markdown.
        onnx_python: an interpreter with the packages of requirements-onnx.txt; None leaves the ONNX file out.
    Returns:
        What the comparison of the ONNX file with the network says: {"images", "largest_difference", "same_classes"};
        None without an ONNX file.
    Raises:
        UserError: `folder` is there and was not written by this function.
        RunError: the ONNX file could not be made, or computes something else than the network.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} holds other files; name another folder with --output")
    with atomic_folder(folder) as temporary:
        shutil.copy(trained.checkpoint / WEIGHTS, temporary / WEIGHTS)
        shutil.copy(trained.run.config, temporary / trained.run.config.name)
        checked = _write_onnx(trained, temporary, onnx_python) if onnx_python else None
        if checked:
            write_json(temporary / CHECK, checked)
        write_text(temporary / CARD, card + _onnx_lines(checked))
    return checked


def _write_onnx(trained: Trained, folder: Path, python: Path) -> dict:
    experiment, split = trained.experiment, trained.data.eval
    config = experiment.data
    indices = split.spread(IMAGES)
    images = np.stack([eval_image(split.images[index], config.image_size) for index in indices])
    batch = normalise(iter(images), config.mean, config.std, len(images))
    with paddle.no_grad():
        logits = trained.network(paddle.to_tensor(batch)).numpy()
    with tempfile.TemporaryDirectory(prefix="simam_repro-") as work:
        work = Path(work)
        program, weights = export(trained.network, config.image_size, work)
        np.savez(work / "expected.npz", images=batch, logits=logits)
        done = subprocess.run(
            [python, CONVERTER, program, weights, work / "expected.npz", folder / ONNX], capture_output=True, text=True
        )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise RunError(f"no ONNX file could be made with {python}: {reason[0]}")
    checked = json.loads(done.stdout.splitlines()[-1])
    if checked["largest_difference"] > ONNX_TOLERANCE * float(np.abs(logits).max()) or not checked["same_classes"]:
        raise RunError(f"the ONNX file gives other logits than the network: {checked}; it was not published")
    return checked


def _onnx_lines(checked: dict | None) -> str:
    if checked is None:
        return "\nNo ONNX file was made.\n"
    return (
        f"\n`{ONNX}`: input `images`, float32 [N, 3, S, S], normalised as `config.yaml` says; output logits. Compared "
        f"with the network on {checked['images']} eval images: the largest difference of a logit is "
        f"{checked['largest_difference']:.1e}, and all predicted classes are the same.\n"
    )
