"""Every field there is, with its default: an MLP on scikit-learn's digits, spawned.

The other configs start from here and change a few lines. Durations end in `_epochs` or `_steps`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """The resolved defaults; a `placeholder` is None until it is set."""
    config = ConfigDict()
    config.name = "default"
    config.seed = 0
    config.replicates = (
        1  # runs with the seeds from `seed` on, each beneath the workdir, and what they say together
    )
    config.fsdp = 1  # devices that hold every network between them, a part each; 1: each holds it whole
    # besides those by default: layerwise_lmc, similarity, variance, lewc, reciprocal_orthogonality,
    # predictions, temperature, random_direction, singular_values, sharpness
    config.measures = (
        "lmc",  # loss and error along the path
        "llfc",  # linearity of every layer's features
        "weak_additivity",  # of every ReLU; with commutativity, the paper's causes of LLFC
        "commutativity",  # of every linear layer
        "deviation",  # where each layer's deviation from linearity comes from
        "stitching",  # the first layers of one network, the last of the other
        "principal_angles",  # between singular subspaces of weights
        "effective_rank",  # of features and weights
        "theory",  # Theorem 1 as a bound for every layer, Lemma 1; of those before it that are taken
    )

    # a single network's own, in place of opt, data.train_split, classes or augment: only.b.opt.weight_decay=0
    config.only = ConfigDict()

    config.data = ConfigDict()
    config.data.name = (
        "digits"  # digits, mnist, fashion_mnist, cifar10, cifar100, another TFDS set, FILE.npz, FILE.txt
    )
    config.data.data_dir = ""  # of TFDS; empty for its own default
    config.data.train_split = "train"  # TFDS split expressions, such as train[:10000]
    config.data.test_split = "test"
    config.data.classes = ()  # of the training data, these labels alone; (): all
    config.data.memory = placeholder(float)  # GiB that a data set may take; a larger one of TFDS is streamed
    config.data.workers = 0  # processes that decode what is streamed; 0: threads of this one
    config.data.augment = False  # random crop and horizontal flip; of text: blocks anywhere
    config.data.crop = "padded"  # augment: padded (by 4), or resized (of random size, for images of any)
    config.data.size = placeholder(int)  # TFDS: side that images of any size are cut to; None: as they are
    config.data.resize = placeholder(int)  # of their shorter side before that, in evaluation; None: 256/224
    config.data.block = placeholder(int)  # of text: bytes that a network sees at a time; None: 256
    config.data.mean = placeholder(tuple)  # per channel; None, as std: the paper's, else the training split's
    config.data.std = placeholder(tuple)

    config.pair = ConfigDict()  # two networks from files, instead of training; both or none
    config.pair.a = placeholder(str)  # of PyTorch, safetensors, .npz, msgpack; or a directory
    config.pair.b = placeholder(str)
    config.pair.entry = placeholder(str)  # where in both files the network lies; None: the one that is there

    config.model = ConfigDict()
    # mlp, lenet, vgg11/13/16/19, resnet18/34/50, vit, gpt; of CIFAR: resnet and preresnet20/32/44/56/110,
    # wideresnet10/16/22/28/40
    config.model.name = "mlp"
    config.model.args = ConfigDict()  # of your own, name=FILE.py:NAME: help("llfc_jax.models.own")
    config.model.output = placeholder(str)  # FILE.py:NAME: which of several are the logits; None: `logits`
    config.model.sha256 = placeholder(str)  # FILE.py:NAME: of the file; None: as it is at the start
    config.model.width = 1.0  # multiplies all hidden widths; of wideresnet, the widening factor
    config.model.norm = placeholder(str)  # none, batch, layer, rms; None: the model's own default, as below
    # What no file of weights holds; None: by the program that wrote the files of config.pair, else PyTorch's
    config.model.padding = placeholder(str)  # resnets, at strides above 1: torch, or same (SAME, as Flax)
    config.model.epsilon = placeholder(float)  # of norms: 1e-5; Flax's LayerNorm and vit: 1e-6
    config.model.activation = placeholder(str)  # relu, gelu, gelu_tanh, tanh, silu, elu, leaky_relu, swiglu
    config.model.pooling = placeholder(str)  # lenet, vgg: max, mean
    config.model.hidden = placeholder(tuple)  # mlp: widths of the hidden layers
    config.model.pool = placeholder(int)  # vgg: side of the map that the head reads; torchvision: 7
    config.model.head = placeholder(tuple)  # vgg: widths of the hidden linear layers
    config.model.dropout = placeholder(float)  # vgg: rate in the head
    config.model.shortcut = placeholder(str)  # resnet20/32/44/56/110: pad, conv
    config.model.stem = placeholder(str)  # resnet18/34/50: imagenet, cifar
    config.model.patch = placeholder(int)  # vit: side of a patch
    config.model.blocks = placeholder(int)  # vit, gpt: how many
    config.model.heads = placeholder(int)  # vit, gpt: of the attention
    config.model.readout = placeholder(str)  # vit: mean, token
    config.model.kv_heads = placeholder(int)  # gpt: of keys and values, each for several of the heads
    config.model.positions = placeholder(str)  # gpt: learned, rotary
    config.model.tied = placeholder(bool)  # gpt: whether the last layer's kernel is the embedding

    config.opt = ConfigDict()
    config.opt.name = "sgd"  # sgd, adam, adamw
    config.opt.learning_rate = 0.1  # the peak
    config.opt.momentum = 0.9  # sgd
    config.opt.beta2 = 0.999  # adam, adamw: decay of squared gradients
    config.opt.weight_decay = 1e-4  # adamw: of kernels and embeddings alone
    config.opt.clip = 0.0  # the largest norm of all gradients together; 0: any
    config.opt.ema = 0.0  # decay of an average of the weights, which then is what is measured; 0: none
    config.opt.schedule = "step"  # step, cosine, constant
    config.opt.decay_at = (0.5, 0.75)  # step: fractions of training
    config.opt.decay_factor = 0.1  # step
    config.opt.warmup = 0.0  # cosine: fraction of training

    config.train = ConfigDict()
    # spawn: a shared trunk, then children of different data orders; twins: of one order and noise on the
    # weights of all but a; independent: different inits
    config.train.pair = "spawn"
    config.train.noise = 0.01  # twins: in units of the root mean square of each array
    config.train.fresh = ()  # spawn, twins: layers that each child begins anew, such as a head of its own
    config.train.networks = 2  # how many children or independent networks: a, b, c, ...
    config.train.epochs = 30
    config.train.spawn_epochs = 2.0  # spawn, twins: where the trunk ends
    config.train.spawn_steps = placeholder(int)  # the same in steps; replaces spawn_epochs
    config.train.control = False  # spawn, twins: one network more, unconnected, to compare a with
    config.train.spawn_sweep = ()  # spawn, twins: several of spawn_epochs, to compare pairs from one trunk
    config.train.batch_size = 64
    config.train.checkpoint_every_epochs = 10
    config.train.checkpoint_every_minutes = 0.0  # and no sooner than that after the one before
    config.train.precision = "float32"  # of matrix products on accelerators: float32, tf32, bfloat16

    config.eval = ConfigDict()
    config.eval.batch_size = 500  # at most; convolutions on CPU take fewer images at a time
    config.eval.train_examples = 10_000  # random subset of the training data to measure on; 0: all
    config.eval.alpha_chunk = 0  # networks on the path evaluated at a time; 0: by the backend's rule

    config.lmc = ConfigDict()
    config.lmc.num_alphas = 25  # equally spaced; 0, 1/2 and 1 are always among them

    config.llfc = ConfigDict()
    config.llfc.alphas = (0.25, 0.5, 0.75)

    config.path = ConfigDict()
    config.path.kind = "line"  # beside it, a curve with a trained bend: bezier, polygon
    config.path.star = False  # one network more, `star`, trained for low loss on the lines to all others
    # spawn, twins: a lambda each: also the lines between trunk + 2 lambda (network - trunk), whose
    # middles are the sums of task arithmetic; of the layers that are shared
    config.path.tasks = ()
    config.path.steps = 2_000  # that the bend, or the star, is trained for, a batch and an alpha each
    config.path.learning_rate = 1e-3  # of Adam

    config.plane = ConfigDict()  # through a, b and c; else b_aligned, else the bend of the path
    config.plane.size = 0  # points a side, of the test loss and error over it; 0: none

    config.principal_angles = ConfigDict()
    config.principal_angles.top_k = 10  # dimension of the subspaces compared

    config.corrections = ConfigDict()  # of networks on the path; each is reported beside the plain path
    config.corrections.recompute = True  # with BatchNorm: re-estimated running statistics
    config.corrections.repair = False  # without: rescaled units (REPAIR)
    config.corrections.examples = 5_000  # training images to estimate them on, seen as in training; 0: all

    config.align = ConfigDict()  # of b (c, ...) to a, by symmetries: permutations of units, and more
    # none, weight_matching, activation_matching, commutativity_matching, straight_through; beyond
    # permutations procrustes_matching, and from there learned_matching; universe_matching of all networks at
    # once, so that each pair is aligned, for more than two
    config.align.method = "none"
    config.align.restarts = 8  # weight_matching, universe_matching: descents, of which the best counts
    config.align.max_sweeps = 100  # of these, commutativity_matching and procrustes_matching
    config.align.statistic = "correlation"  # activation_matching: correlation, covariance
    config.align.examples = 5_000  # random subset of the training data that the others look at; 0: all
    config.align.epochs = 5  # straight_through, learned_matching
    config.align.learning_rate = placeholder(float)  # of the same; None: 1e-3, and 1e-2 falling as a cosine
    config.align.ladder = (
        False  # whether to say which of the network's constraints cost how much of the barrier
    )
    config.align.relaxation = "straight_through"  # or sinkhorn: how learned_matching descends permutations
    config.align.classes = ()  # beyond permutations: some of invertible, orthogonal, ...; (): all there are

    config.sample = ConfigDict()  # of text: what the networks write, in the report
    config.sample.length = 100  # bytes; 0: nothing
    config.sample.prompt = ""  # what they go on from; empty: the start of a line
    config.sample.temperature = 0.8  # by which logits are divided; 0: the likeliest byte each time

    config.verdict = ConfigDict()  # by which the report judges; argued in llfc_jax/reporting/judgement.py
    config.verdict.max_error_barrier = 0.02  # LMC: fraction
    config.verdict.max_loss_barrier = 0.02  # LMC: part of log(classes), the loss of a guess
    config.verdict.max_llfc = 0.5  # LLFC: distance from the line, in units of the nearer end's
    config.verdict.chance = 0.9  # an end whose error is this part of a guess's has learnt nothing
    config.verdict.confidence = 0.95  # of the barriers' intervals

    config.merge = ConfigDict()
    config.merge.alpha = placeholder(float)  # save the network at this point of the path as `merged`
    config.merge.weights = ()  # or the mean of all networks with these weights, such as (1, 1, 1)

    # A file that starts from here can't misspell a field, but nobody knows those of a network of one's own,
    # nor what networks are called.
    config.lock()
    config.model.args.unlock()
    config.only.unlock()
    return config
