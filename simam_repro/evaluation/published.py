"""What the originals published: the one home of these numbers."""

# One run each; the best epoch was chosen on the eval set. The accuracy is the unweighted mean over 79 batches, of which
# the last has 16 images: 8523 and 8530 of 10112, where each of those 16 counts eight times. `metric` is the same in
# metrics.jsonl; the plain accuracy over images (eval_acc) is another number.
ALEXNET_CIFAR10 = {
    "name": "AlexNet on CIFAR-10, 50 epochs", "backbone": "alexnet", "data_set": "cifar10",
    "metric": "eval_batch_mean_acc",
    "off": {"best_eval_acc": 0.84286, "train_acc": 0.8422},
    "on": {"best_eval_acc": 0.84355, "train_acc": 0.8556},
}  # fmt: skip
# Rounded: the two have five digits.
ALEXNET_DIFFERENCE = round(ALEXNET_CIFAR10["on"]["best_eval_acc"] - ALEXNET_CIFAR10["off"]["best_eval_acc"], 5)
# A figure without a number, and the claim of a clear gain in accuracy and robustness.
TOWERNET_CALTECH = {
    "name": "TowerNet on Caltech101-16, 100 epochs", "backbone": "towernet", "data_set": "caltech101_16",
}  # fmt: skip
EXPERIMENTS = (ALEXNET_CIFAR10, TOWERNET_CALTECH)
MODULE = "simam"
