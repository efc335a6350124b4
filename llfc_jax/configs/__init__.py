"""Configurations: `default.py` has every field, the others change a few.

What they gave, by `llfc_jax --config=NAME` and the flags said; barriers on the test set (loss in nats, error
in percentage points). LLFC is the worst layer's 1 - cos at alpha = 1/2 on the test set, over its A-B
baseline, 1 - cos(f_A, f_B), of which an end itself has about a quarter; the command judges in another unit,
what staying at the nearer end would give (`llfc_jax.reporting.judgement`). Seed 0, 2 cores of a Xeon CPU. A
loss barrier of 0 says that the path lies below its chord.

    config                            test error A, B   loss, error     LLFC, worst layer            time
    digits_mlp (spawned)              0.56 %, 1.11 %    0, 0.02         4.8 % (relu2)                1 min
    digits_mlp_permutation, naive     1.11 %, 1.11 %    1.364, 25.8     151 % (dense4)
      after weight matching                             0, 0.00         9.7 % (relu2)                1 min
    mnist_mlp (spawned)               1.48 %, 1.53 %    0, 0.02         3.2 % (relu2)                1.5 min
    mnist_mlp_permutation, naive      1.66 %, 1.58 %    1.758, 78.8     1540 % (dense4)
      after weight matching                             0.0031, 0.16    17.9 % (dense4), hidden 9.6  2 min
      after activation matching                         0.0079, 0.21    19.5 % (dense4)              2 min
      after straight-through                            0.0030, 0.08    17.4 % (dense4)              2.5 min
    cifar_resnet (spawned), see there 26.5 %, 25.4 %    0, 0.10         4.1 % (dense)                93 min
    text_gpt (spawned), see there     67.1 %, 66.8 %    0, 0.05                                      1 min
    text_gpt_permutation, see there   66.8 %, 67.8 %    0.658, 11.9                                  1 min
      after weight matching                             0.307, 8.1
      after activation matching                         0.264, 6.7
      after straight-through                            0.120, 3.1                                   5 min
      after procrustes_matching                         0.241, 7.6
      after learned_matching                            0.043, 0.6                                   7 min

Permuted ResNets: `cifar_resnet_permutation`; vision transformers, which learned matching connects without
LLFC: `cifar_vit_permutation`. Why features are nearly linear for the spawned and the permuted MNIST pair and
not for the unconnected one, at dense2 and relu2, from `results.json` of the same runs (all layers:
`llfc_jax compare runs/mnist_mlp runs/mnist_mlp_permutation --out=runs/contrast`):

    pair         Dist_com  Dist_W  Dist_H  weak additivity,  deviation of the logits,  Lemma 1
                                           1 - cos           its bound (Theorem 1)
    spawned      0.0013    0.079   0.23    0.0019            0.036, 2.5                1.55 % <= 3.06 %
    permuted     0.10      1.5     0.79    0.021             0.33, 6.8                 1.78 % <= 3.32 %
    unconnected  1.2       2.0     1.8     0.12              0.95, 8.3                 broken: 80.4 %

The papers' figures:

    LLFC, figure 2 (spawned)       cifar_vgg, cifar_resnet, mnist_mlp, mnist_lenet: barrier near 0; 1 - cos
                                   far below the baseline in every layer
    LLFC, ResNet-50 (spawned)      tiny_imagenet_resnet50: the same; not run here
    REPAIR, ResNet-50 (permuted)   imagenet_resnet50: 51 to 56 % top-1 halfway, matched and recomputed; not
                                   run here
    LLFC, figure 3 (permuted)      mnist_mlp_permutation, cifar_resnet_permutation (--config.model.width=32):
                                   barrier near 0 after matching; 1 - cos far below the baseline in every
                                   hidden layer
    LLFC, on weak additivity and   the above, then `llfc_jax compare`: Dist_com far below Dist_W and Dist_H
      commutativity                unless unconnected
    Frankle et al., figure 3       cifar_resnet_spawn_sweep, mnist_mlp_spawn_sweep: barrier and LLFC distance
                                   fall with the spawn epoch
    Butterfly effect, figure 1     --config.train.pair=twins --sweep train.spawn_epochs=0,0.5,2
      (arXiv 2506.13234)           --sweep train.noise=1e-4,0.01,1: late or small noise leaves the basin less
    Other children of one trunk    --config.only.b.opt.name=adam --config.only.b.opt.weight_decay=0;
                                   --config.only.a.data.train_split='train[:50%]' (b: 'train[50%:]');
                                   --config.only.a.data.classes=0,1,2,3,4 (b: the others)
    Cross-task linearity           the same with --config.path.tasks=1,1 (or 1,-1), --config.train.fresh=LAYER
      (arXiv 2402.03660)           for heads of their own: LLFC of taska-taskb at 1/2 is that of the sum (the
                                   difference) of task vectors
    Git Re-Basin, figure 2         mnist_mlp_permutation, --config.align.method=...: naive barrier large,
                                   matched near 0
    Star domains                   digits_mlp_permutation --config.path.star=True --config.train.networks=3
      (arXiv 2403.07968)           --config.align.method=none: barriers of 0 to the centre, unpermuted, where
                                   those between two are 1.1 to 1.4; LMC without LLFC: the median layer is at
                                   1.2 to 1.6 of the nearer end's distance from the line

Training with `--config.train.precision=tf32` (or `bfloat16`) has faster matrix products on accelerators;
measures are always taken in float32. The CIFAR-10 configs measure in batches that suit a CPU's memory: give a
GPU more at once by `--config.eval.batch_size=500`. Several devices share every batch:
`config.train.batch_size` must be a multiple of their number, and the numbers stay those of one device, up to
rounding.
"""
