"""Where a trained network with attention looks: weight maps of its attention layers, and Grad-CAM of the arms."""

import argparse
from pathlib import Path

from simam_repro import cli


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run with attention: its folder, or a checkpoint in it")
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files; default: 4 eval images")
    parser.add_argument("--layers", default="all", metavar="all|NAME,...", help="weight maps of these layers")
    parser.add_argument("--cam-layer", metavar="NAME", help="Grad-CAM at this layer; default: the last feature map")
    parser.add_argument(
        "--beside", "--off", action="append", type=Path, metavar="RUN",
        help="another arm for Grad-CAM; may be repeated; default: the runs beside RUN that differ in attention only",
    )  # fmt: skip
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="default: RUN/figures")
    cli.add_device_option(parser)
    return parser.parse_intermixed_args()  # IMAGE may also follow the options


def main():
    arguments = parse_arguments()

    from simam_repro.evaluation import load_trained
    from simam_repro.reporting.attention import arms_beside, write_attention_figures

    trained = load_trained(arguments.run, arguments.device)
    beside = arguments.beside or [run.path for run in arms_beside(trained.run)]
    if not beside:
        print("no other arm beside it: Grad-CAM shows one network (--beside RUN adds others)")
    others = [load_trained(path, arguments.device) for path in beside]
    names = None if arguments.layers == "all" else arguments.layers.split(",")
    paths = write_attention_figures(
        trained, others, arguments.images, names, arguments.cam_layer, arguments.output_dir or trained.run.figures
    )
    for path in paths:
        print(f"figure: {cli.relative(path)}")
    if trained.run.visualdl.is_dir():
        print("both are in the run's VisualDL log, too: make visualdl")
