"""Two ResNet-50 of torchvision on ImageNet, trained independently, the second permuted towards the first.

Paper: REPAIR (Jordan et al. 2023, arXiv 2211.08403), where matched networks halfway between two ResNet-50
have 51 to 56 % top-1 accuracy once their BatchNorm statistics are those of their own activations: matching
looks at correlations of activations, and the statistics are recomputed on training images, cropped at random
as in training. Its pair was trained by one recipe; torchvision's two checkpoints are of different recipes.
Not run here at this size, for want of ImageNet.

The images are TFDS's `imagenet2012` (`validation` to test on), prepared in `DATA_DIR` as ArrayRecord, and
streamed. The checkpoints are where PyTorch puts them:

    python -c 'from torchvision.models import resnet50 as f; [f(weights=f"IMAGENET1K_V{i}") for i in (1, 2)]'
    llfc_jax --config=imagenet_resnet50 --config.data.data_dir=DATA_DIR
"""

from ml_collections import ConfigDict

from llfc_jax.configs import default

_CHECKPOINTS = "~/.cache/torch/hub/checkpoints"


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = default.get_config()
    config.name = "imagenet_resnet50"
    config.measures = ("lmc", "llfc")
    config.data.name = "imagenet2012"
    config.data.test_split = "validation"
    config.data.augment = True
    config.data.crop = "resized"
    config.data.size = 224
    config.data.resize = 256
    config.pair.a = f"{_CHECKPOINTS}/resnet50-0676ba61.pth"
    config.pair.b = f"{_CHECKPOINTS}/resnet50-11ad3fa6.pth"
    config.model.name = "resnet50"
    config.eval.batch_size = 50
    config.align.method = "activation_matching"
    return config
