"""Where a trained network with SimAM looks: weight maps of its SimAM layers, and Grad-CAM without and with SimAM."""

import argparse
from pathlib import Path

from simam_repro import cli


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run with SimAM: its folder, or a checkpoint in it")
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files; default: 4 eval images")
    parser.add_argument("--layers", default="all", metavar="all|NAME,...", help="weight maps of these SimAM layers")
    parser.add_argument("--cam-layer", metavar="NAME", help="Grad-CAM at this layer; default: the last feature map")
    parser.add_argument("--off", type=Path, metavar="RUN", help="the same without SimAM; default: beside RUN")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="default: RUN/figures")
    cli.add_device_option(parser)
    return parser.parse_intermixed_args()  # IMAGE may also follow the options


def main():
    arguments = parse_arguments()

    from simam_repro.evaluation import load_trained
    from simam_repro.reporting.attention import find_other_half, write_attention_figures

    trained = load_trained(arguments.run, arguments.device)
    off = arguments.off or find_other_half(trained.run)
    if off is None:
        print("no run without SimAM beside it: Grad-CAM shows one network (--off RUN adds the other)")
    else:
        off = load_trained(off, arguments.device)
    names = None if arguments.layers == "all" else arguments.layers.split(",")
    paths = write_attention_figures(
        trained, off, arguments.images, names, arguments.cam_layer, arguments.output_dir or trained.run.figures
    )
    for path in paths:
        print(f"figure: {cli.relative(path)}")
    if trained.run.visualdl.is_dir():
        print("both are in the run's VisualDL log, too: make visualdl")
