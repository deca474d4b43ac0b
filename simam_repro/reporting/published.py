"""What the originals published: the one home of these numbers."""

# One run each; the best epoch was chosen on the eval set (its note said nothing of seeds).
ALEXNET_CIFAR10 = {
    "name": "AlexNet on CIFAR-10, 50 epochs",
    "off": {"best_eval_acc": 0.84286, "train_acc": 0.8422, "images_per_s": 986},
    "on": {"best_eval_acc": 0.84355, "train_acc": 0.8556, "images_per_s": 938},
    "claim": "SimAM raises the eval accuracy",
}
TOWERNET_CALTECH = {
    "name": "TowerNet on Caltech101-16, 100 epochs",
    "claim": "SimAM improves accuracy clearly and makes the model more robust (a figure, no number)",
}
