"""A trained network, back from its run folder."""

from dataclasses import dataclass
from functools import cached_property
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
    """A network in eval mode with the experiment that made it."""

    run: RunFolder
    checkpoint: Path
    experiment: Experiment
    classes: tuple[str, ...]
    network: nn.Layer
    device: str

    @cached_property
    def data(self) -> PreparedData:
        """The data set that the network was trained on.

        Raises:
            UserError: see `prepare_data`; or it is another than at the time of the training.
        """
        data = prepare_data(self.experiment.data)
        self.run.check_data(data.describe())
        return data

    @property
    def stand_in(self) -> bool:
        """See `PreparedData`."""
        recorded = self.run.read_data()
        return recorded["stand_in"] if recorded else self.data.stand_in


def load_trained(path, device: str = "auto") -> Trained:
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
    classes = _recorded_classes(run) or prepare_data(experiment.data).classes
    network = build_model(experiment.model, len(classes), experiment.data.image_size)
    load_weights(checkpoint, network)
    network.eval()
    return Trained(run, checkpoint, experiment, classes, network, device)


def _recorded_classes(run: RunFolder) -> tuple[str, ...] | None:
    """The class names at the time of the training, so that naming needs no data; None where an older run has none."""
    return tuple((run.read_data() or {}).get("class_names") or ()) or None
