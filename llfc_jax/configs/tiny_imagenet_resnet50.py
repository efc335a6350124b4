"""A spawned pair of ResNet-50 on Tiny-ImageNet: the third network of the paper.

Paper: LLFC (Zhou et al. 2023), section 3; spawned at epoch 14. The rest of the recipe it doesn't state: it is
that of `cifar_resnet`, its own for CIFAR-10 (SGD, momentum 0.9, rate 0.1, a tenth of it at one half and at
three quarters of 160 epochs, batches of 128, weight decay 1e-4, crops after padding by 4, flips), and the
network is torchvision's, with the stem of ImageNet. Not run here at this size, for want of a GPU.

Tiny-ImageNet (200 classes, 100,000 images of 64x64 to train on, 10,000 to validate) is none of TFDS's own:
it is read from `DATA_DIR/tiny_imagenet/VERSION/` (see `help("llfc_jax.data")`), in memory where its 1.3 GiB
are at most a quarter of the machine's, and of the device's, else streamed.

    llfc_jax --config=tiny_imagenet_resnet50 --config.data.data_dir=DATA_DIR
"""

from ml_collections import ConfigDict

from llfc_jax.configs import cifar_resnet


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = cifar_resnet.get_config()
    config.name = "tiny_imagenet_resnet50"
    config.data.name = "tiny_imagenet"
    config.data.test_split = "validation"
    config.data.size = 64
    config.data.resize = 64
    config.model.name = "resnet50"
    config.train.spawn_epochs = 14.0
    config.eval.batch_size = 100
    return config
