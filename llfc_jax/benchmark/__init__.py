"""How fast, how close to the machine's limit, and how much memory: `python -m llfc_jax.benchmark`.

It prints this table, each row from a process of its own, medians of 5; what the columns are, `__main__` says.
Path evaluation is LMC at 25 alphas and LLFC at 3, with PyTorch from a `DataLoader`, which takes more than
half of its time for the MLP. On 2 cores of an AMD EPYC with AVX2, jax 0.10.2, PyTorch 2.13, it took
15 minutes, a third of them PyTorch's:

 row                                 images  seconds  images/s  GFLOP/s   peak     MB  x time   x MB  at 10k
 ────────────────────────────────────────────────────────────────────────────────────────────────────────────
 forward, mlp                           128  0.00322    39,806     74.2  0.643    411   0.732  0.596
 forward, resnet20                      128    0.208       615     46.0  0.365    525   0.847  0.658
 forward, resnet20x4                     32    0.440      72.8     85.5  0.709    584    1.12  0.578
 forward, vgg16                         128    0.756       169     95.8  0.754  1,071    1.56  0.487
 training step, mlp                     128  0.00954    13,417     75.1  0.678    410    1.27  0.820
 training step, resnet20                128    0.638       201     45.0  0.388    928   0.982  0.723
 training step, resnet20x4               32     1.48      21.7     76.5  0.693    984   0.975  0.729
 training step, vgg16                   128     2.95      43.4     73.7  0.565  1,599    1.26  0.779
 path evaluation, mlp                 2,000    0.530    94,302      176   1.44    559    6.79  0.700    1.23
 path evaluation, resnet20               50     1.82       689     51.5  0.417  1,142    1.99  0.578    59.7
 path evaluation, resnet20x4             16     5.88      68.1     80.0  0.626  1,313    1.41  0.628     207
 path evaluation, vgg16                  32     6.44       124     70.2   1.01  1,839    2.59  0.698    58.3
 all measures, mlp                    2,000     1.72                              899
 weight matching, mlp                          0.109                              426
 weight matching, resnet20x4-ln                0.181                              743
 weight matching, vgg16-512                    0.942                            1,079
 activation matching, mlp               500   0.0252    39,642                    410
 activation matching, resnet20x4-ln     100     3.07      65.1                    893
 activation matching, vgg16-512          32    0.415       154                    732

Weight matching takes 6.1, 3.0 and 15.8 times less time than Git Re-Basin's published procedure in NumPy and
SciPy, with a higher objective; a process's first search, of which on CPU nothing is compiled, 4.9, 2.6 and
18.3 times less. Both took turns, medians of 5, on quiet cores: 0.081, 0.126 and 0.570 s of ours (the table is
of an earlier search). In one thread (`OPENBLAS_NUM_THREADS=1`), 7.3, 3.5 and 20.2 times, cold 7.0, 3.3 and
21.1. Products of once each array for each of its permutations, which any proof takes that none can be
bettered, are 1.49, 3.74 and 28.6 GFLOP; we multiply 1.50, 3.97 and 28.9, the published procedure as much as
once in each of 12, 5 and 24 sweeps. By products alone 5 times is the most for ResNet-20; they are under half
of our time, and assignments, 19 instead of 60, an eighth.
(A search compiled as a whole took 4.8, 3.6 and 11.3 times less, but ten seconds to compile.)
All measures together take 2.7 times as long as LMC and LLFC. The machine is a shared one: from run to run
times differ by up to a half, ratios by less. How costs grow: `growth`; what a path costs on many
accelerators: `cost_model`.

On one NVIDIA H100 (jax 0.11.2, PyTorch 2.11, medians of 3 and 5), against the same script with its networks
on the GPU; path evaluation of 2,000 images in batches of 500, training steps of 128. Of PyTorch's 2.9 s, 2.3
are its `DataLoader`'s; its memory for 10,000 images is 68 GB:

    row                                   ours   PyTorch  x time  memory, ours  PyTorch's
    path evaluation, resnet20          0.378 s    2.94 s     7.8        2.9 GB    14.2 GB
    training step, resnet20, float32   4.65 ms   9.75 ms     2.1
    training step, resnet20, TF32      3.10 ms   10.0 ms     3.2
    training step, vgg16, TF32         4.02 ms   8.73 ms     2.2

A path costs there what bare forward passes cost (3.75 ms for 500 images, 27 networks, 4 batches: 0.405 s),
and the first pass 15 s of compilation. Each step was dispatched on its own; epochs of a run are one program.
Assignment problems are solved on the host, 0.5, 1.5, 3.3 and 19 ms for 64, 128, 256 and 512 units against
optax's 15, 34, 73 and 208 ms on the GPU.

The table is of small pages (`runtime.pages`), and of 50 images at a time for ResNet-20. The command asks for
large ones by itself, and the rows give them to PyTorch, too. Then PyTorch takes, by `--only="forward, "` and
`--only="training step, "` on 2 quiet cores (medians of 5), so many times as long as we do:

    row             mlp  resnet20  resnet20x4  vgg16
    forward        0.69      1.10        1.32   1.50
    training step  1.28      1.18        1.04
    path           6.03      1.85        1.33   1.96

Paths of 2,000, 32, 16 and 32 images, by `--only="path evaluation"`, take 0.696, 1.13, 6.73 and 6.64 s and 495
to 1,743 MB. Three more runs gave 0.61 to 0.77 s for the MLP, and 0.98 to 1.33 s for ResNet-20.

A forward pass of the MLP takes 4 ms. The convolutions get 45 (16 channels) to 70 GFLOP/s of the peak's 72,
and nothing that was tried does better: products of unfolded patches 20 to 50, several columns at a time 35,
YNNPACK 35.
"""
