"""Networks of other programs: reading their files, and writing ours as they want them.

    llfc_jax --config=mnist_mlp --config.pair.a=a.pt --config.pair.b=b.pt --config.merge.alpha=0.5 ...
    llfc_jax export RUN --what=a|b|b_aligned|merged --format=safetensors|npz|pt|orbax [--out=PATH]

Files are PyTorch's (`pip install -e '.[torch]'`; `.pt`, `.pth.tar`, `.ckpt`, told by their first bytes;
nothing pickled is ever run), safetensors (with shards), `.npz`, Flax's msgpack, and directories: of Orbax
(bare pytrees, steps and roots of a `CheckpointManager`, a checkpoint of any run) or of Hugging Face. The
network is found wherever it lies in a file; what lies beside it is named, and
`--config.pair.entry=state_dict_ema` chooses among several. `--config.model.…` names the architecture.

Names are those of llfc_jax, of the LLFC authors' MLP, LeNet, VGG and ResNets, of torchvision's VGG and
ResNets (`model.name=vgg16 model.pool=7`, `resnet50`), or any others: then shapes say which layer is which,
numbers and blocks in the names where shapes don't, and last the order of the file, if it has one that nothing
contradicts; the pairing is printed, and what can't be told is refused with the candidates. Layouts are
converted. What no file holds follows the program that wrote it, is printed and can be set: `model.padding`,
`epsilon`, `activation`, `pooling`. `--config.data.mean` and `std` set the normalisation that the networks
expect, where it isn't the paper's.

A network goes out in the names, layout and number type of the file it came from, bit for bit where nothing
was changed. Networks trained here have names such as `params/dense1/kernel`; whatever is exported can be
imported. The networks of a finished run are measured, aligned or merged in another way through its
checkpoints, `--config.pair.a=runs/digits_mlp/checkpoints/a` and `b`.
"""

from llfc_jax.interchange.loading import Source, load_variables, read_variables, source_arrays
from llfc_jax.interchange.own import read_own, trained_source

__all__ = [
    "Source",
    "load_variables",
    "read_own",
    "read_variables",
    "source_arrays",
    "trained_source",
]
