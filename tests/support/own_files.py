"""Files as users write them, with a network of their own."""

TORCH = '''
import torch
from torch import nn


class Net(nn.Module):
    """A convolution, BatchNorm with its statistics, dropout."""

    def __init__(self, hidden=8, rate=0.5):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(rate)
        self.hidden = nn.Linear(64, hidden)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x))).flatten(1)
        return self.head(self.drop(torch.tanh(self.hidden(x))))


class Plain(nn.Sequential):
    def __init__(self, hidden=8):
        super().__init__(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 64)
        self.two.weight = self.one.weight
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(torch.tanh(self.two(torch.tanh(self.one(x.flatten(1))))))


class Idle(nn.Module):
    """A norm that is never called."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)

    def forward(self, x):
        return self.head(torch.relu(self.first(x.flatten(1))))


class Branching(Plain):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else 2 * super().forward(x)


made = Plain()
'''

FLAX = '''
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


class Linen(nn.Module):
    num_classes: int
    hidden: int = 8

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(self.hidden)(x.reshape(len(x), -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


class Nnx(nnx.Module):
    def __init__(self, hidden: int = 8, *, rngs):
        self.first = nnx.Linear(64, hidden, rngs=rngs)
        self.norm = nnx.BatchNorm(hidden, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(hidden, 10, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(nnx.relu(self.norm(self.first(x.reshape(len(x), -1))))))


class Idle(nnx.Module):
    """Of two norms, those of the names in `runs` are called."""

    def __init__(self, runs: str = "", *, rngs):
        self.first = nnx.Linear(64, 8, rngs=rngs)
        self.norm, self.other = (nnx.BatchNorm(8, rngs=rngs) for _ in range(2))
        self.head = nnx.Linear(8, 10, rngs=rngs)
        self.runs = runs

    def __call__(self, x):
        x = self.first(x.reshape(len(x), -1))
        x = self.norm(x) if self.runs == "norm" else x
        return self.head(nnx.relu(x))


class Frozen(nn.Module):
    """A norm that keeps its statistics in training."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x.reshape(len(x), -1))
        return nn.Dense(10)(nn.relu(nn.BatchNorm(use_running_average=True, name="norm")(x)))


def functions(hidden=8, num_classes=10, scale=1.0):
    def init(key, x):
        first, head = jax.random.split(key)
        draw = jax.random.normal
        return {"first": scale * draw(first, (64, hidden)) / 8, "head": draw(head, (hidden, num_classes)) / 3}

    def apply(variables, x):
        return jax.nn.relu(x.reshape(len(x), -1) @ variables["first"]) @ variables["head"]

    return init, apply
'''
