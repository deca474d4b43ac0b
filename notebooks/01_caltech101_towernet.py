# %% [markdown]
# # TowerNet on 16 classes of Caltech-101: a walk through the first experiment
#
# The original is a notebook for PaddlePaddle 2.x. It trains *TowerNet*, a small Inception-style network with four
# SimAM layers, for 100 epochs on 16 classes of Caltech-101, and shows curves beside those of VGG19, ResNet50 and
# MobileNetV2.
#
# **What it claims:** that SimAM improves the accuracy clearly and makes the network more robust. **What it shows for
# that:** one figure of one run each, without a number. That is no evidence either way; one run more or less says as
# little. This suite exists to ask again, with pairs of runs that differ in SimAM only, several seeds, and statistics.
#
# **What this notebook is:** a guided tour that calls the package step by step, on a small part of the data, with
# small images and a few epochs, so that it runs in a minute or two on a laptop. *Its accuracies are not results.*
# `make caltech-towernet` trains the real thing.

# %%
import numpy as np
from _setup import has_data, show

from simam_repro.config import PROJECT_ROOT, load_config
from simam_repro.data import build_loaders, prepare_data
from simam_repro.data.sets.caltech101_16 import SOURCE
from simam_repro.data.transforms import eval_image
from simam_repro.evaluation import load_trained
from simam_repro.models import attention_layers, build_model, count_parameters
from simam_repro.reporting import network_table, plot_curves, side_by_side, write_figures
from simam_repro.reporting.attention import write_attention_figures
from simam_repro.reporting.figures import plot_augmentation, plot_samples
from simam_repro.reporting.style import new_figure
from simam_repro.runs import SMOKE_ROOT, RunFolder
from simam_repro.training import fit
from simam_repro.training.optim import build_schedule

scratch = SMOKE_ROOT / "notebook_01"

# %% [markdown]
# ## The experiment is a YAML file
#
# A pair of configs, and one switch between its halves. `configs/faithful/` has a third: the recipe as the original
# code *ran* it, where the plain one has what it *meant*. What they differ in is explained further down.

# %%
CONFIGS = PROJECT_ROOT / "configs"
off, on, faithful = (
    load_config(CONFIGS / name) for name in
    ("caltech_towernet.yaml", "caltech_towernet_simam.yaml", "faithful/caltech_towernet_simam.yaml")
)  # fmt: skip


def differences(first, second):
    first, second = first.to_flat(), second.to_flat()
    return "\n".join(f"  {key}: {first[key]} -> {second[key]}" for key in first if first[key] != second[key])


print("off -> on", differences(off, on), "on -> faithful", differences(on, faithful), sep="\n")

# %% [markdown]
# This notebook cuts both halves in the same way: 128 pixels instead of 256, a part of the images, three epochs
# instead of 100. With Caltech-101 on the machine (in `data/`, or its archive in a folder of `SIMAM_ARCHIVES`) it uses
# the real images, without it the embedded generated ones. The next output says which it was here.

# %%
cut = ["data.image_size=128", "data.batch_size=16", "data.train_limit=240", "data.eval_limit=96", "train.epochs=3",
       "train.device=cpu"]  # fmt: skip
if not has_data("caltech101_16", SOURCE):
    cut.append("data.dataset=shapes16")
short_off, short_on = (load_config(CONFIGS / f"{half.name}.yaml", cut) for half in (off, on))

data = prepare_data(short_on.data, warn=lambda message: None, progress=False)
kind = "generated images (stand-in data, no evidence about SimAM)" if data.stand_in else "real images"
print(f"data used below: {data.name}, {kind}, archive sha256 {data.sha256[:12]}...")
print(f"whole set: {len(data.classes)} classes, {len(data.train)} train and {len(data.eval)} eval images")
print(f"used here: {short_on.data.train_limit} train and {short_on.data.eval_limit} eval images, "
      f"{short_on.train.epochs} epochs of the real {on.train.epochs}")

# %% [markdown]
# ## Data
#
# Within each class every fifth file goes to the eval set. The original never says which 16 classes it took; the ones
# here give the numbers of batches that it printed, 45 for training and 12 for evaluation, of 32 images. One random
# training image of each class, as the original shows them:

# %%
whole = build_loaders(data, on.data, on.seed)
print(f"batches of {on.data.batch_size}: {len(whole.train)} train, {len(whole.eval)} eval")
plot_samples(data, 128, on.seed, scratch / "samples.png")
show(scratch / "samples.png", 620)

# %% [markdown]
# The only augmentation is a rotation by up to 10 degrees (the original writes flips, too, and comments them out).
# One image untouched, then as sixteen epochs see it. The draw follows from seed, epoch and image alone:

# %%
first_of_class = np.flatnonzero(data.train.labels == 10)[0]
plot_augmentation(data, short_on.data, on.seed, first_of_class, scratch / "augmentation.png")
show(scratch / "augmentation.png")

# %% [markdown]
# ### A bug of the original: the channels of the mean are swapped
#
# The original subtracts a mean that rises from R to B. Photos are brighter in red than in blue, so this is a mean in
# the order B, G, R. Beside it the mean of some of the images used here (generated ones have no such order):

# %%
some = np.stack([eval_image(data.train.images[index], 64) for index in data.train.spread(300)]) / 255
for what, mean in (
    ("mean of 300 images here", some.mean(axis=(0, 1, 2))),
    ("the original's, as it is used", faithful.data.mean),
    ("the same, in order", on.data.mean),
):
    print(f"{what:30s} R {mean[0]:.3f}  G {mean[1]:.3f}  B {mean[2]:.3f}")

# %% [markdown]
# The effect is small, as the first BatchNorm absorbs most of it. But a suite that reproduces has to say which of the
# two it does.

# %% [markdown]
# ## Network
#
# Four stages of convolution, BatchNorm and ReLU, three Inception blocks, global average, one linear layer. SimAM
# follows the max-pools of the stages 3 and 4 and both pools between the Inception blocks:

# %%
print(network_table(on))

# %%
network = build_model(on.model, 16, 256)
for name, layer in attention_layers(network).items():
    print(f"behind {name:14s} {layer}")
print(f"parameters with SimAM:    {count_parameters(network):,}")
print(f"parameters without SimAM: {count_parameters(build_model(off.model, 16, 256)):,}")

# %% [markdown]
# ## Learning rate, and the second bug
#
# The original asks for a cosine from 0.01 to 0 over its 100 epochs: `CosineAnnealingDecay(T_max=100)`. But Paddle's
# training loop steps a schedule after every *batch*, so its learning rate falls to 0 within 100 batches, climbs back
# over the next 100, and so on: 22 waves in 100 epochs. The curves of one epoch then depend on where in a wave it ends.
# This suite counts `T_max` in batches, but for the faithful config.

# %%
batches = 45
schedules = [build_schedule(experiment.optim, experiment.train.epochs, batches) for experiment in (faithful, on)]
rates = []
for _ in range(on.train.epochs * batches):
    rates.append([schedule() for schedule in schedules])
    for schedule in schedules:
        schedule.step()

figure = new_figure(9, 3)
panel = figure.subplots()
looks = (("as it ran (faithful)", "#9a9a9a", 0.8), ("as it was meant (plain)", "#1b3a6b", 2.2))
for values, (label, colour, width) in zip(zip(*rates), looks):
    panel.plot(np.arange(len(rates)) / batches, values, color=colour, linewidth=width, label=label)
panel.set_xlabel("epoch")
panel.set_ylabel("learning rate")
figure.legend(loc="outside upper center", ncols=2, frameon=False)
show(figure)

# %% [markdown]
# ## Training, briefly
#
# `fit` takes an experiment and leaves a run folder with config, records, checkpoints, predictions and a VisualDL log.
# Both halves, one after the other:

# %%
for experiment in (short_off, short_on):
    fit(experiment, scratch / experiment.name, overwrite=True)
runs = [scratch / experiment.name for experiment in (short_off, short_on)]

# %% [markdown]
# Two more traps of Paddle's loop are avoided inside. Its shuffling ignores the seed. And the loss that it reports for
# an epoch is the loss of the *last batch*, which the original plots. The eval images stand in the order of their
# classes, so the last batch holds one class or two, and its loss can even move against the mean. The records here keep
# both:

# %%
for record in RunFolder(runs[1]).read_metrics():
    mean, last = record["eval_loss"], record["eval_last_batch_loss"]
    print(f"epoch {record['epoch']}: eval loss {mean:.3f}, of the last batch alone {last:.3f}")

# %%
plot_curves(runs, scratch / "curves.png")
show(scratch / "curves.png")

# %%
print(side_by_side(runs))

# %% [markdown]
# These are not results: three epochs on a few hundred images, and 96 eval images, on which an accuracy has a standard
# error of up to 5 points. (The speeds are those of a machine that did other work at the same time.)
#
# One thing to know when reading such early curves: SimAM multiplies every input by a weight between 0.62 and 1, mostly
# near 0.67, and behind three of the four layers no BatchNorm undoes it. The half with SimAM therefore starts with
# smaller signals and gradients, apart from any attention. What remains of that after 100 epochs, and over several
# seeds, is the question that the full runs are for.

# %% [markdown]
# ## Predictions
#
# The briefly trained network with SimAM on eval images:

# %%
write_figures(runs[1])
show(runs[1] / "figures" / "predictions.png", 620)

# %% [markdown]
# ## Where SimAM puts its weight
#
# The weights of the four SimAM layers, averaged over the channels, on four eval images. At 128 pixels the last map has
# a single neuron, which is always the mean of its channel: SimAM multiplies all by 0.62 there. (At the 256 pixels of
# the experiment it is 2x2.)

# %%
maps, _ = write_attention_figures(load_trained(runs[1], device="cpu"))
show(maps)

# %% [markdown]
# ## From here to a result
#
# - `make caltech-towernet` and `make caltech-towernet-off` train the pair as it was meant; `make visualdl` shows the
#   curves.
# - One pair is one draw. Train several seeds of both (`SEED=1`, `SEED=2`, ...) and compare the pairs.
# - The best epoch, chosen on the eval images, flatters every run: look at the final epoch's accuracy beside it.
