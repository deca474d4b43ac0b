# %% [markdown]
# # Why SimAM is what it is: from its energy to ten lines of code
#
# SimAM (Yang et al., *SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks*,
# ICML 2021) multiplies every neuron of a feature map by a weight between 0.62 and 1, without a single
# parameter. The weight comes from an *energy* that measures how well one neuron can be told from the other
# neurons of its channel by a straight line. This notebook starts from that energy, solves it, checks every
# step with numbers, and ends at the code. It needs no data and a few seconds of one processor core.

# %%
import numpy as np
import paddle
from _setup import show

from simam_repro.data.sets import shapes16
from simam_repro.models import simam
from simam_repro.reporting.style import new_figure

rng = np.random.default_rng(2021)

# %% [markdown]
# ## 1. The energy of one neuron
#
# Neuroscience gives the motive: a neuron that fires unlike its surroundings carries information, and it
# suppresses its neighbours (*spatial suppression*). To find such neurons, take one channel of a feature map,
# with $M = H \times W$ neurons. Call one of them the target $t$ and the others $x_1, \dots, x_{M-1}$. Look for
# a linear function $w x + b$ that is $+1$ at the target and $-1$ at all the others. The energy is its mean
# squared error (the paper's equation 1), with a penalty on a large slope (equation 2):
#
# $$
# e_t(w, b) = \underbrace{\big(1 - (w\,t + b)\big)^2}_{\text{the target, wanted at } +1}
#   + \underbrace{\frac{1}{M-1} \sum_{i=1}^{M-1} \big(-1 - (w\,x_i + b)\big)^2}_{\text{the others, wanted at } -1}
#   + \lambda w^2 .
# $$
#
# A low minimum means that the line succeeds: the target stands apart. In $w$ and $b$ this is a ridge
# regression, so ordinary least squares solves it exactly. Each squared term is a row of a linear system, scaled
# by the root of its factor; the penalty is a row of its own.

# %%
def energy(w, b, target, others, e_lambda):
    """The energy of one neuron for a given line, term by term as above."""
    return (1 - (w * target + b)) ** 2 + np.mean((-1 - (w * others + b)) ** 2) + e_lambda * w**2


def solve(target, others, e_lambda):
    """The line (w, b) of least energy, by least squares; nothing of SimAM's formulas is used."""
    scale = 1 / np.sqrt(len(others))
    rows = np.vstack([
        [[target, 1.0]],
        scale * np.column_stack([others, np.ones_like(others)]),
        [[np.sqrt(e_lambda), 0.0]],
    ])
    wanted = np.concatenate([[1.0], np.full(len(others), -scale), [0.0]])
    return np.linalg.lstsq(rows, wanted, rcond=None)[0]


# %% [markdown]
# One channel of $7 \times 7$ neurons, and three of them as the target: the highest, one at the middle, and the
# lowest. The line can meet both wishes for a neuron at the edge of the distribution. For one in the middle it
# gives up: $w \approx 0$ and $b \approx 0$, an energy of $1 + 1 = 2$, the worst there is.

# %%
channel = np.sort(np.append(rng.normal(0, 1, 48), 5.0))
figure = new_figure(9, 3.2)
panels = figure.subplots(1, 3, sharey=True)
for panel, index, name in zip(panels, (48, 24, 0), ("stands out", "in the middle", "lowest")):
    target, others = channel[index], np.delete(channel, index)
    w, b = solve(target, others, 1e-4)
    panel.plot(others, np.full(48, -1), "|", color="#7f7f7f", markersize=12, label="others, wanted at -1")
    panel.plot(target, 1, "o", color="black", label="target, wanted at +1")
    panel.plot(channel, w * channel + b, color="#1b3a6b", label="best line w x + b")
    panel.set_title(f"{name}: energy {energy(w, b, target, others, 1e-4):.2f}", fontsize=10)
    panel.set_xlabel("activation")
    panel.set_ylim(-1.6, 1.6)
panels[0].set_ylabel("value of the line")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
show(figure)

# %% [markdown]
# ## 2. The closed form
#
# No solver is needed. Write $\mu_t$ and $\sigma_t^2$ for the mean and the variance (divided by $M-1$, their
# number) of the *others*, and $\delta = t - \mu_t$.
#
# **The intercept.** $\partial e / \partial b = 0$ says that the two mean errors cancel:
#
# $$
# (w\,t + b - 1) + (w\,\mu_t + b + 1) = 0 \quad\Longrightarrow\quad b_t = -\tfrac12 (t + \mu_t)\, w_t .
# $$
#
# The line passes through zero half way between the target and the mean of the others.
#
# **What is left in $w$.** With this $b$ the target's error is $1 - \tfrac12 w \delta$, and the errors of the others
# have the mean $\tfrac12 w \delta - 1$ and the variance $w^2 \sigma_t^2$, so
#
# $$
# e_t(w) = 2 \big(1 - \tfrac12 w \delta\big)^2 + w^2 (\sigma_t^2 + \lambda) .
# $$
#
# **The slope.** $\partial e / \partial w = -2 \delta \big(1 - \tfrac12 w \delta\big) + 2 w (\sigma_t^2 + \lambda)
# = 0$ gives
#
# $$
# w_t = \frac{+\,2\,(t - \mu_t)}{(t - \mu_t)^2 + 2 \sigma_t^2 + 2 \lambda} .
# $$
#
# **The sign.** The paper prints this slope with a minus (its equation 3), and reproductions copy it. With the
# targets of its own equation 2, $+1$ for $t$ and $-1$ for the others, the plus is right: the line must rise from
# the others towards the target. The minus belongs to swapped targets. No later step depends on it: $b_t$ as printed
# is right given $w_t$, and swapped targets give $-w_t$, $-b_t$ and the same least energy.
#
# **The minimal energy.** Put $D = \delta^2 + 2(\sigma_t^2 + \lambda)$, so that $w_t = 2\delta/D$ and
# $1 - \tfrac12 w_t \delta = 2 (\sigma_t^2 + \lambda) / D$. Then
#
# $$
# e_t^\ast = \frac{8 (\sigma_t^2 + \lambda)^2 + 4 \delta^2 (\sigma_t^2 + \lambda)}{D^2}
#   = \frac{4\,(\sigma_t^2 + \lambda)}{(t - \mu_t)^2 + 2 \sigma_t^2 + 2 \lambda} ,
# $$
#
# which lies between 0 (perfectly apart) and 2 (at the mean of the others). Against least squares, for 3,000
# random neurons of channels of many sizes, offsets, spreads and $\lambda$:

# %%
def closed_form(target, others, e_lambda, sign=+1):
    """(w, b, energy) from the formulas above; `sign=-1` takes the slope as the paper prints it."""
    delta, variance = target - others.mean(), others.var()
    denominator = delta**2 + 2 * variance + 2 * e_lambda
    w = sign * 2 * delta / denominator
    return w, -(target + others.mean()) * w / 2, 4 * (variance + e_lambda) / denominator


differences, excess = [], []
for _ in range(3000):
    neurons = rng.normal(rng.uniform(-1, 1), rng.uniform(0.5, 2), rng.integers(4, 400))
    target, others = neurons[0], neurons[1:]
    e_lambda = 10 ** rng.uniform(-5, 0)
    w, b = solve(target, others, e_lambda)
    solved = np.array([w, b, energy(w, b, target, others, e_lambda)])
    differences.append(np.abs(solved - closed_form(target, others, e_lambda)))
    printed_w, printed_b, _ = closed_form(target, others, e_lambda, sign=-1)
    excess.append(energy(printed_w, printed_b, target, others, e_lambda) / solved[2])

worst = np.max(differences, axis=0)
assert (worst < 1e-10).all() and np.min(excess) > 1
print("least squares and closed form agree to 1e-10 in w, b and e*: ", bool((worst < 1e-10).all()))
print(f"energy at the slope with the printed minus: {np.median(excess):.1f} times the minimum (median), never below it")

# %% [markdown]
# ## 3. One mean and one variance for all (equation 5)
#
# $\mu_t$ and $\sigma_t^2$ leave the target out, so every neuron needs its own. The paper assumes that all neurons
# of a channel follow one distribution and takes the mean $\hat\mu$ and the variance $\hat\sigma^2$ over *all* $M$
# neurons once:
#
# $$
# e_t^\ast = \frac{4\,(\hat\sigma^2 + \lambda)}{(t - \hat\mu)^2 + 2 \hat\sigma^2 + 2 \lambda} ,
# \qquad
# \frac{1}{e_t^\ast} = \frac{(t - \hat\mu)^2}{4\,(\hat\sigma^2 + \lambda)} + \frac12 .
# $$
#
# The second form is the one that code computes. The paper writes $\hat\sigma^2$ with $1/M$; its code,
# and both PaddlePaddle reproductions, divide by $M - 1$. What the shortcut changes can be said exactly, as leaving
# one neuron out shifts mean and variance by known amounts:
#
# $$
# t - \mu_t = \frac{M}{M-1}\,(t - \hat\mu), \qquad
# \sum_i (x_i - \mu_t)^2 = \sum_{\text{all}} (x - \hat\mu)^2 - \frac{M}{M-1}\,(t - \hat\mu)^2 .
# $$
#
# For large maps and usual neurons the difference is of order $1/M$. It is not small for a neuron that stands out
# on a small map: it raises $\hat\sigma^2$ itself. With the code's variance $(t - \hat\mu)^2$ never exceeds
# $\frac{(M-1)^2}{M}\,\hat\sigma^2$, so $1/e^\ast$ stays below $\frac{(M-1)^2}{4M} + \frac12$, however far out the
# neuron is, where the exact value has no bound. On a $2 \times 2$ map that caps the weight at 0.74.

# %%
def exact_inverse_energy(z, size):
    """1/e* with the others' statistics at lambda 0, for z = (t - mean) / standard deviation over all (1/M)."""
    return 0.5 + z**2 * size / (4 * (size - 1) * (1 - z**2 / (size - 1)))


def code_inverse_energy(z, size):
    """The same from equation 5 with the variance over all, divided by M - 1."""
    return 0.5 + z**2 * (size - 1) / (4 * size)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


neurons = rng.normal(0, 1, 49)
target, others = neurons.max(), np.delete(neurons, neurons.argmax())
z = (target - neurons.mean()) / neurons.std()
assert np.isclose(exact_inverse_energy(z, 49), 1 / closed_form(target, others, 0.0)[2])

figure = new_figure(9, 3.4)
panels = figure.subplots(1, 3, sharey=True)
for panel, side in zip(panels, (2, 4, 16)):
    z = np.linspace(0, min(np.sqrt(side**2 - 1), 6) - 1e-9, 300)  # a channel of M neurons has no larger z
    exact, code = (sigmoid(formula(z, side**2)) for formula in (exact_inverse_energy, code_inverse_energy))
    panel.plot(z, exact, "--", color="#e07b00", label="statistics of the others (exact)")
    panel.plot(z, code, "-", color="#1b3a6b", label="statistics of all (SimAM)")
    panel.set_title(f"{side}x{side} map, M = {side**2}", fontsize=10)
    panel.grid(alpha=0.3)
panels[0].set_ylabel("sigmoid(1/e*)")
figure.supxlabel("distance of the neuron from the mean of its channel (standard deviations)", fontsize="medium")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
show(figure)

# %% [markdown]
# ## 4. From the energy to the weight, and the code
#
# A neuron of low energy matters more, so the weight grows with $1/e^\ast$. The sigmoid keeps it from growing without
# end and does not change the order:
#
# $$
# \tilde X = \operatorname{sigmoid}\!\Big(\frac{1}{E}\Big) \odot X .
# $$
#
# Because $1/e^\ast \ge \tfrac12$, no weight is below $\operatorname{sigmoid}(\tfrac12) = 0.62$: SimAM never silences a
# neuron, it turns the usual ones down by at most 38 %. That is the whole module:

# %%
def weights_by_hand(x, e_lambda):
    """float [N, C, H, W] -> the weight of every neuron."""
    size = x.shape[2] * x.shape[3]
    squared = (x - x.mean((2, 3), keepdims=True)) ** 2
    variance = squared.sum((2, 3), keepdims=True) / (size - 1)
    inverse_energy = squared / (4 * (variance + e_lambda)) + 0.5
    return sigmoid(inverse_energy)


features = rng.normal(0, 1, (8, 16, 14, 14)).astype(np.float32)
by_hand = features * weights_by_hand(features.astype(np.float64), 1e-4)
difference = np.abs(by_hand - simam(paddle.to_tensor(features), 1e-4).numpy()).max()
assert difference < 1e-5
print("by hand in float64 and simam_repro.models.simam in float32 agree to 1e-5:", bool(difference < 1e-5))

# %% [markdown]
# ## 5. What $\lambda$ does
#
# $\lambda$ began as the penalty on the slope. In the weight it appears beside the variance of the channel only, so
# it means nothing by itself: what counts is $\lambda / \hat\sigma^2$.
#
# - $\lambda \ll \hat\sigma^2$: the weight depends on the distance in standard deviations alone. Scale a channel by
#   any factor, or shift it, and the weights stay.
# - $\lambda \gg \hat\sigma^2$: every weight goes to 0.62. A flat channel has nothing that stands out; this is the
#   case that $\lambda$ is there for (without it, a constant channel would divide zero by zero).
#
# The official module has $10^{-4}$ as its default and trains ImageNet with 0.1; the two PaddlePaddle experiments
# take $10^{-4}$ and $10^{-5}$. On channels with a standard deviation near 1 these give almost the same weights; on
# faint channels they do not.

# %%
channel = rng.normal(0, 1, (1, 1, 14, 14))
print("standard deviation   lambda 1e-5      lambda 1e-4      lambda 0.1       (lowest to highest weight)")
for deviation in (1, 0.1, 0.01, 0.001):
    weights = [weights_by_hand(deviation * channel, e_lambda) for e_lambda in (1e-5, 1e-4, 0.1)]
    print(f"{deviation:18g}   " + "   ".join(f"{weight.min():.3f} to {weight.max():.3f}" for weight in weights))
scaled = weights_by_hand(30 * channel + 5, 1e-4)
assert np.allclose(scaled, weights_by_hand(channel, 1e-4), atol=1e-4)
print("scaled by 30 and shifted by 5, with lambda 1e-4: the same weights to 1e-4")

figure = new_figure(6.5, 3.6)
panel = figure.subplots()
z = np.linspace(-5, 5, 301)
for ratio, look in ((0, "-"), (1, "--"), (10, "-."), (100, ":")):
    panel.plot(z, sigmoid(z**2 / (4 * (1 + ratio)) + 0.5), look, color="#1b3a6b", label=f"{ratio}")
panel.set_xlabel("distance from the channel's mean (standard deviations)")
panel.set_ylabel("weight")
panel.set_ylim(0.6, 1.01)
panel.grid(alpha=0.3)
panel.legend(title="lambda / variance", frameon=False)
show(figure)

# %% [markdown]
# ## 6. Weights of a picture
#
# An image is a feature map of three channels. Below, the red channels of two of the embedded generated images, and
# then what a trained network has many channels of: the strength of the edges.
#
# - First row: the star is far from the channel's mean, and has the high weights. It is the *darkest* part: distance
#   counts on either side.
# - Second row: here the star's red is near the mean, and it has the *lowest* weights; the bright top and the dark
#   bottom stand out. SimAM knows no objects, only distances from a mean.
# - Third row: most neurons of an edge channel are near zero and a few are not. Exactly these keep their value, and
#   the rest is turned down. On channels of this kind, sparse ones, the weights do what one hopes.

# %%
images = [np.asarray(shapes16.draw("star", np.random.default_rng(seed)), np.float64) / 255 for seed in (3, 10)]
edges = np.hypot(*np.gradient(images[1].mean(axis=2)))
rows = ((images[0], "red channel", images[0][..., 0]), (images[1], "red channel", images[1][..., 0]),
        (images[1], "edge strength", edges))  # fmt: skip

figure = new_figure(9, 6.9)
panels = figure.subplots(3, 4)
for (first, second, third, fourth), (image, name, plane) in zip(panels, rows):
    weight = weights_by_hand(plane[None, None], 1e-4)[0, 0]
    first.imshow(image)
    second.imshow(plane, cmap="gray", vmin=0, vmax=plane.max())
    drawn = third.imshow(weight, cmap="inferno", vmin=0.62, vmax=1)
    fourth.imshow(plane * weight, cmap="gray", vmin=0, vmax=plane.max())
    for panel, title in zip((first, second, third, fourth), ("image", name, "weight", "weighted channel")):
        panel.set_title(title, fontsize=10)
        panel.axis("off")
figure.colorbar(drawn, ax=panels[:, 2], location="bottom", shrink=0.9, label="weight")
show(figure)

# %% [markdown]
# ## What follows from all this
#
# - No parameters, and weights that differ over space *and* channels: two statistics a channel are enough.
# - Every weight depends on the whole channel, but on nothing outside it: channels never talk to each other here.
# - The module only ranks by distance from the mean. Whether what stands out is *useful* is for the convolution
#   before it to arrange; training through SimAM is what can make it so.
# - On tiny maps the effect is small (2x2: weights from 0.62 to 0.74) and on 1x1 there is none: $M - 1 = 0$, and the
#   code has to guard the division.
# - None of this says that a network gets better with it. That is a question for repeated experiments.
