"""Pre-activation ResNet-110 for images of 32x32 (He et al., ECCV 2016); see `simam_repro.models.cifar_resnet`."""

from simam_repro.models.cifar_resnet import cifar_resnet

BACKBONE = cifar_resnet(110, pre_activation=True)
