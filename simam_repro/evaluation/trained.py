"""A trained network, back from its run folder."""

from dataclasses import dataclass
from pathlib import Path

from paddle import nn

from simam_repro.config import Experiment
from simam_repro.data import PreparedData, prepare_data
from simam_repro.device import select_device
from simam_repro.errors import UserError
from simam_repro.models import build_model
from simam_repro.runs import RunFolder
from simam_repro.training.checkpoints import load_weights


@dataclass(frozen=True)
class Trained:
    """A network in eval mode with the experiment and the data that made it."""

    run: RunFolder
    checkpoint: Path
    experiment: Experiment
    data: PreparedData
    network: nn.Layer
    device: str


def load_trained(path, archive_folders=(), device: str = "auto") -> Trained:
    """The network of a run (its best weights) or of one checkpoint of a run.

    Args:
        path: a run folder, or a checkpoint folder inside one (RUN/checkpoints/last).
    Raises:
        UserError: neither, no weights yet, or weights that do not fit the run's config.
    """
    path = Path(path)
    is_run = RunFolder(path).started
    run = RunFolder(path if is_run else path.parent.parent)
    checkpoint = run.best if is_run else path
    if not run.started:
        raise UserError(f"{path} is neither a run folder (no config.yaml) nor a checkpoint folder inside one")
    experiment = run.read_experiment()
    device = select_device(device)
    data = prepare_data(experiment.data, archive_folders)
    network = build_model(experiment.model, len(data.classes), experiment.data.image_size)
    load_weights(checkpoint, network)
    network.eval()
    return Trained(run, checkpoint, experiment, data, network, device)
