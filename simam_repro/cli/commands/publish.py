"""Write a trained network as a folder to take away: weights, config, model card, and an ONNX file.

The ONNX file is made and checked in an environment of its own (`make publish RUN=...` makes it): its packages pin old
versions of others.
"""

import argparse
from pathlib import Path

from simam_repro import cli


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a complete run; its best weights")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: published/NAME-seedN")
    parser.add_argument(
        "--onnx-python", type=Path, metavar="PYTHON",
        help="an interpreter with the packages of requirements-onnx.txt; without it there is no ONNX file",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.onnx_python and not arguments.onnx_python.is_file():
        raise cli.UserError(f"--onnx-python {arguments.onnx_python}: no such interpreter; `make publish` makes one")

    from simam_repro.config import PROJECT_ROOT
    from simam_repro.evaluation import load_trained
    from simam_repro.evaluation.publish import publish
    from simam_repro.reporting.model_card import model_card

    trained = load_trained(arguments.run, "cpu")
    experiment, result = trained.experiment, trained.run.read_result()
    folder = arguments.output or PROJECT_ROOT / "published" / f"{experiment.name}-seed{experiment.seed}"
    checked = publish(trained, folder, model_card(experiment, result), arguments.onnx_python)
    print(f"written: {cli.relative(folder)}")
    if checked:
        print(
            f"ONNX file: compared on {checked['images']} images; logits differ by {checked['largest_difference']:.1e} "
            "at most"
        )
