# %% [markdown]
# # AlexNet on CIFAR-10: a walk through the second experiment
#
# The original is a notebook for PaddlePaddle 2.x. It trains an AlexNet with and without SimAM behind its five
# convolutions, for 50 epochs on CIFAR-10 upscaled to 128 pixels.
#
# **What it publishes**, from one run each, at the best of 50 epochs as chosen on the eval set:
#
# | | train accuracy | eval accuracy | eval images/s (a GPU of the time) |
# |---|---|---|---|
# | without SimAM | 0.8422 | 0.84286 | 986 |
# | with SimAM | 0.8556 | 0.84355 | 938 |
#
# **What that says about SimAM:** nothing yet. The difference on the eval set is 7 of 10,000 images. The sampling error
# of one such accuracy is about 36 images, and another seed moves it further; a section below does the sum.
#
# **What this notebook is:** a guided tour that calls the package step by step, on a small part of the data and a few
# epochs, so that it runs in a minute or two on a laptop. *Its accuracies are not results.* `make cifar-alexnet` trains
# the real thing.

# %%
import numpy as np
import paddle
from _setup import has_data, show

from simam_repro.config import PROJECT_ROOT, load_config
from simam_repro.data import build_loaders, prepare_data
from simam_repro.data.sets.cifar10 import SOURCE
from simam_repro.evaluation import load_trained
from simam_repro.models import build_model, count_parameters
from simam_repro.reporting import network_table, plot_curves, side_by_side, write_eval_grid
from simam_repro.reporting.attention import write_attention_figures
from simam_repro.reporting.figures import plot_augmentation, plot_samples
from simam_repro.runs import SMOKE_ROOT, RunFolder
from simam_repro.training import fit

scratch = SMOKE_ROOT / "notebook_02"

# %% [markdown]
# ## The experiment is a YAML file
#
# A pair of configs, and one switch between its halves:

# %%
CONFIGS = PROJECT_ROOT / "configs"
off, on = (load_config(CONFIGS / f"alexnet{suffix}.yaml") for suffix in ("", "_simam"))
flat_off, flat_on = off.to_flat(), on.to_flat()
print("\n".join(f"{key}: {flat_off[key]} -> {flat_on[key]}" for key in flat_on if flat_off[key] != flat_on[key]))

# %% [markdown]
# This notebook cuts both halves in the same way: a part of the images, smaller batches, three epochs instead of 50.
# With CIFAR-10 on the machine (in `data/`, or its archive in a folder of `SIMAM_ARCHIVES`) it uses the real images,
# without it the embedded generated ones. The next output says which it was here.

# %%
cut = ["data.batch_size=32", "data.num_workers=0", "data.train_limit=512", "data.eval_limit=256",
       "train.epochs=3", "train.device=cpu"]  # fmt: skip
if not has_data("cifar10", SOURCE):
    cut.append("data.dataset=shapes16")
short_off, short_on = (load_config(CONFIGS / f"{half.name}.yaml", cut) for half in (off, on))

data = prepare_data(short_on.data, warn=lambda message: None, progress=False)
kind = "generated images (stand-in data, no evidence about SimAM)" if data.stand_in else "real images"
print(f"data used below: {data.name}, {kind}, archive sha256 {data.sha256[:12]}...")
print(f"whole set: {len(data.classes)} classes, {len(data.train)} train and {len(data.eval)} eval images")
print(f"used here: {short_on.data.train_limit} train and {short_on.data.eval_limit} eval images, "
      f"{short_on.train.epochs} epochs of the real {on.train.epochs}")

# %% [markdown]
# ## How much is 0.07 %?
#
# An accuracy $p$ measured on $n$ images has a standard error of $\sqrt{p (1-p) / n}$ from the choice of the images
# alone. The two networks see the same images, so a paired test does better than this; but it needs the predictions,
# which were not published. (This suite keeps them in every run folder.) What no test on one run each can see is the
# spread between seeds.

# %%
published_off, published_on, images = 0.84286, 0.84355, 10_000
error = np.sqrt(published_off * (1 - published_off) / images)
for what, value in (("difference", published_on - published_off), ("standard error of one accuracy", error)):
    print(f"{what:31s} {value:.2%}  ({value * images:.0f} images)")

# %% [markdown]
# ## Data and augmentation
#
# One random training image of each class, at the 128 pixels that the network sees (CIFAR-10 has 32):

# %%
whole = build_loaders(data, on.data, on.seed)
print(f"batches of {on.data.batch_size}: {len(whole.train)} train (the incomplete one dropped), {len(whole.eval)} eval")
plot_samples(data, on.data.image_size, on.seed, scratch / "samples.png")
show(scratch / "samples.png", 620)

# %% [markdown]
# Training images are resized to 130 pixels, jittered in brightness, contrast and saturation by up to 20 %, cropped at
# random (60 to 100 % of the area, back to 128 pixels), flipped half of the time and rotated by up to 20 degrees. The
# original also lists a mixup; it comes from another library that expects another format of samples, and changes
# nothing. One image untouched, then as sixteen epochs see it:

# %%
plot_augmentation(data, on.data, on.seed, 3, scratch / "augmentation.png")
show(scratch / "augmentation.png")

# %% [markdown]
# ## Network
#
# One tower of five convolutions, then three linear layers that hold most of the parameters. The order is convolution,
# SimAM, ReLU. SimAM therefore sees negative values, too, and far below the mean of a channel counts as much as far
# above; the ReLU then removes what is below zero.

# %%
print(network_table(on))
print(f"\nwithout SimAM: {count_parameters(build_model(off.model, 10, off.data.image_size)):,} parameters, 10 classes")

# %% [markdown]
# ## Objective
#
# Adam at 5e-4 with a cosine over all steps (here the original gets it right), and label smoothing 0.1, which the
# original writes out as $0.9 \cdot \text{nll} + 0.1 \cdot \text{mean}_c(-\log p_c)$. Paddle's own
# `CrossEntropyLoss(label_smoothing=0.1)` is the same:

# %%
paddle.seed(0)
logits, labels = paddle.randn([64, 10]), paddle.randint(0, 10, [64])
log_p = paddle.nn.functional.log_softmax(logits)
nll = -paddle.take_along_axis(log_p, labels.unsqueeze(1), axis=1).mean()
by_hand = 0.9 * nll + 0.1 * (-log_p).mean()
native = paddle.nn.CrossEntropyLoss(label_smoothing=0.1)(logits, labels)
print(f"written out {float(by_hand):.6f}, native {float(native):.6f}")

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
# The original has a loop of its own, which reports the mean over its batches. `paddle.Model.fit`, which trains here,
# reports as the loss of an epoch that of its *last batch*, with the objective's label smoothing in it for the eval
# set, too. The records here hold the mean over all images of the plain cross-entropy, and the other beside it:

# %%
for record in RunFolder(runs[1]).read_metrics():
    mean, last = record["eval_loss"], record["eval_last_batch_loss"]
    print(f"epoch {record['epoch']}: eval cross-entropy {mean:.3f}, objective on the last batch {last:.3f}")

# %%
plot_curves(runs, scratch / "curves.png")
show(scratch / "curves.png")

# %%
print(side_by_side(runs))

# %% [markdown]
# Read nothing into the difference between the two columns: a few steps on one percent of the data, one run each, and
# 256 eval images, which give an accuracy a standard error of up to 3 points. (The speeds are those of a machine that did
# other work at the same time.)

# %% [markdown]
# ## Predictions
#
# The original ends with 18 eval images, each with its predicted and its true label. The same, with the briefly trained
# network with SimAM:

# %%
trained = load_trained(runs[1], device="cpu")
write_eval_grid(trained, scratch / "grid.png")
show(scratch / "grid.png")

# %% [markdown]
# ## Where SimAM puts its weight
#
# The weights of the five SimAM layers, averaged over the channels, on four eval images:

# %%
maps, _ = write_attention_figures(trained)
show(maps)

# %% [markdown]
# ## From here to a result
#
# - `make cifar-alexnet` and `make cifar-alexnet-off` train the pair, `make visualdl` shows the curves.
# - One pair is one draw. Train several seeds of both (`SEED=1`, `SEED=2`, ...) and compare the pairs.
# - The best epoch, chosen on the eval images, flatters every run: look at the final epoch's accuracy beside it.
