"""Class and probability for image files, or a grid of eval images with predicted and true class."""

import argparse
from pathlib import Path

from simam_repro import cli


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder (its best weights) or RUN/checkpoints/last")
    parser.add_argument("images", metavar="IMAGE|FOLDER", nargs="*", help="image files, or folders of them")
    parser.add_argument("--top", type=cli.positive, default=3, metavar="K", help="classes to show for each; default 3")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the predictions there too")
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

    from tqdm import tqdm

    from simam_repro.evaluation import find_images, load_trained, open_image, predict_images
    from simam_repro.reporting import prediction_lines, write_eval_grid, write_predictions

    paths = find_images(arguments.images)
    trained = load_trained(arguments.run, arguments.device)
    if arguments.eval_grid:
        output = arguments.output or trained.run.figures / "eval_grid.png"
        write_eval_grid(trained, output)
        print(f"figure: {cli.relative(output)}")
        return
    bar = tqdm(paths, unit=" images", disable=None, leave=False)
    probabilities = predict_images(trained, map(open_image, bar))
    print("\n".join(prediction_lines(paths, probabilities, trained.classes, arguments.top)))
    if arguments.csv:
        write_predictions(arguments.csv, paths, probabilities, trained.classes, arguments.top)
        print(f"table: {cli.relative(arguments.csv)}")
