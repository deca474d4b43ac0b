"""Class and probability for image files, or a grid of eval images with predicted and true class."""

import argparse
import sys
from pathlib import Path

from simam_repro import cli
from simam_repro.errors import printable


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder (its best weights) or RUN/checkpoints/last")
    parser.add_argument("images", metavar="IMAGE|FOLDER", nargs="*", help="image files, or folders of them")
    parser.add_argument("--top", type=cli.positive, default=3, metavar="K", help="classes to show for each; default 3")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the predictions there too")
    parser.add_argument("--skip-damaged", action="store_true", help="exit code 0 when some of several cannot be read")
    parser.add_argument("--eval-grid", action="store_true", help="draw 18 eval images of the run instead")
    parser.add_argument("--output", type=cli.png, metavar="PNG", help="default RUN/figures/eval_grid.png")
    cli.add_device_option(parser)
    # Options may stand between the images too.
    arguments = parser.parse_intermixed_args()
    if arguments.eval_grid == bool(arguments.images):
        parser.error("give either images or --eval-grid")
    if arguments.output and not arguments.eval_grid:
        parser.error("--output is the figure of --eval-grid; predictions go to --csv")
    if arguments.csv and (arguments.eval_grid or arguments.csv.is_dir()):
        parser.error("--csv needs images, and a file name")
    return arguments


def main():
    arguments = parse_arguments()

    from simam_repro.evaluation import find_images, load_trained
    from simam_repro.reporting import write_eval_grid

    paths = find_images(arguments.images)
    trained = load_trained(arguments.run, arguments.device)
    if arguments.eval_grid:
        output = arguments.output or trained.run.figures / "eval_grid.png"
        write_eval_grid(trained, output)
        print(f"figure: {cli.relative(output)}")
    else:
        show_predictions(trained, paths, arguments)


def show_predictions(trained, paths: list[Path], arguments) -> None:
    """Print each as it comes; what could not be read is named at the end."""
    import numpy as np
    from tqdm import tqdm

    from simam_repro.evaluation import predict_files
    from simam_repro.reporting import prediction_line, write_predictions

    width, damaged, known = max(len(printable(path)) for path in paths), [], []
    bar = tqdm(paths, unit=" images", disable=None, leave=False)
    for path, probabilities in predict_files(trained, bar, damaged):
        tqdm.write(prediction_line(path, probabilities, trained.classes, arguments.top, width))
        sys.stdout.flush()
        known.append((path, probabilities))
    if not known:
        raise damaged[0]
    if arguments.csv:
        names, rows = zip(*known)
        write_predictions(arguments.csv, names, np.stack(rows), trained.classes, arguments.top)
        print(f"table: {cli.relative(arguments.csv)}")
    if damaged:
        told = "\n".join([f"{len(damaged)} of {len(paths)} images are left out:", *(f"  {error}" for error in damaged)])
        if not arguments.skip_damaged:
            raise cli.RunError(f"{told}\n--skip-damaged takes that for success")
        print(told, file=sys.stderr)
