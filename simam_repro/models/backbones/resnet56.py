"""ResNet-56 for images of 32x32 (He et al., CVPR 2016); see `simam_repro.models.cifar_resnet`."""

from simam_repro.models.cifar_resnet import cifar_resnet

BACKBONE = cifar_resnet(56)
