"""The model card of a published network, written from its run."""

import jinja2

from simam_repro.config import Experiment
from simam_repro.reporting.numbers import percent
from simam_repro.reporting.report import TEMPLATES
from simam_repro.reporting.style import STAND_IN_NOTE


def model_card(experiment: Experiment, result: dict) -> str:
    """Markdown: what the network is, how good it is and on what that was chosen, how to use it, and its limits.

    Args:
        result: the content of the run's result.json.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template("model_card.md").render(
        experiment=experiment, result=result, attention=result["attention"], stand_in_note=STAND_IN_NOTE,
        chosen_on=result["best"].get("chosen_on", "eval"),
    )  # fmt: skip
