"""Two independent ResNet-20 (LayerNorm, conv shortcuts) on CIFAR-10, the second permuted towards the first.

Papers: Git Re-Basin (Ainsworth et al. 2023), section 5.1: the wider (`--config.model.width=4` to 32), the
lower the barrier after matching; LLFC (Zhou et al. 2023), section 3. The recipe is Git Re-Basin's.

A ResNet-20 of width 1 is too narrow to be permuted into another's basin, as in Git Re-Basin, whose networks
of 32 times that width, trained for 250 epochs, come near zero. Measured, barriers in nats and points of test
error:

* width 1, `--config.train.epochs=3 --config.opt.warmup=0.2`, ends 47.5 %, 52.1 % on 2,000 test images: 0.944
  and 35.3 become 0.921 and 20.5 by weight matching, 0.334 and 13.3 with REPAIR, 0.401 and 9.5 by activation
  matching (1,000 test images);
* width 4 after a short training (10,000 images, 3 epochs of Adam at 1e-3 in batches of 25; ends 61.4 %,
  61.4 % on 500 test images): 0.624 and 20.4 become 0.473 and 15.0 by weight matching, 0.331 and 14.0 with
  REPAIR, 0.303 and 8.8 by activation matching, 0.382 and 12.0 by the straight-through estimator (both from
  500 images);
* width 4, hardly trained (`--config.data.train_split=train[:5120] --config.data.test_split=test[:500]
  --config.data.augment=False --config.train.batch_size=16 --config.opt.name=adam
  --config.opt.learning_rate=1e-3 --config.opt.warmup=0.1 --config.train.epochs=1`: 320 steps; ends 76.2 %,
  77.8 %): at the midpoint 0.536 and 13.8 become 0.368 and 4.4 by weight matching, 0.058 and 0.0 by
  learned matching (`--config.align.examples=640 --config.align.epochs=4 --config.align.learning_rate=3e-2`),
  without LLFC: the median layer's distance, in units of the nearer end's, is 0.84, 0.71 and 0.76;
* width 1 after one such epoch: 0.729 and 18.8 become 0.369 and 16.0 by the straight-through estimator.

    llfc_jax --config=cifar_resnet_permutation
"""

from ml_collections import ConfigDict

from llfc_jax.configs import cifar_resnet


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = cifar_resnet.get_config()
    config.name = "cifar_resnet_permutation"
    config.model.norm = "layer"
    config.model.shortcut = "conv"
    config.opt.schedule = "cosine"
    config.opt.warmup = 0.02
    config.train.pair = "independent"
    config.train.epochs = 250
    config.train.batch_size = 100
    config.align.method = "weight_matching"
    config.corrections.repair = True
    return config
