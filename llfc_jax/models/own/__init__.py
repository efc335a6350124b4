"""A network of the user's own, from a file: `config.model.name=FILE.py:NAME`.

NAME is a class of PyTorch modules, of Linen or of NNX modules, or a function that returns such a module or a
pair `(init, apply)`. It is called with `config.model.args.…`; `num_classes` and `input_shape` (of one image:
height, width, channels), where it asks for them by name and has no default, are the data's.

* PyTorch: read through `llfc_jax.from_torch`. Images come as it wants them, (n, channels, height, width).
* Linen, NNX: images are (n, height, width, channels). Linen's `__call__` is told of training by an argument
  `train`, `training` or `is_training`, or `deterministic` or `use_running_average`, where it has one.
* `init(key, inputs)` draws any pytree of arrays, of which all floats are trained; `apply(variables, inputs)`
  returns logits.

Of a network that returns several arrays, the logits are the one called `logits`, or the one that
`config.model.output` names: a key, a field or a position, joined by dots (`1`, `head.scores`).

The file is run, once, with its directory on the path, as Python would; nothing else is. What it raises is one
line that names its place in the file.
"""

from llfc_jax.models.own.building import build
from llfc_jax.models.own.file import origin
from llfc_jax.models.own.network import Entry, OwnNetwork

__all__ = ["Entry", "OwnNetwork", "build", "origin"]
