"""Modules as people write them in PyTorch."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional

CLASSES = 5


class Convolutional(nn.Module):
    """BatchNorm, an activation in place, a buffer of its own, and dropout."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2)
        self.norm2 = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, CLASSES)
        self.register_buffer("temperature", torch.tensor(2.0))

    def forward(self, x):
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)))
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.head(self.dropout(x)) / self.temperature


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(width, width, 3, padding=1),
                norm=nn.GroupNorm(2, width),
                act=nn.SiLU(),
                out=nn.Conv2d(width, width, 1),
            )
        )

    def forward(self, x):
        return x + self.body(x)


class Residual(nn.Module):
    """Nested containers, GroupNorm, a residual stream."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList([Block(8), Block(8)])
        self.heads = nn.ModuleDict({"main": nn.Linear(8, CLASSES)})

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.heads["main"](x.mean((2, 3)))


class TiedAutoencoder(nn.Module):
    """One weight under two names, the second transposed."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(12, 7)
        self.decoder = nn.Linear(7, 12)
        self.decoder.weight = nn.Parameter(self.encoder.weight.t())

    def forward(self, x):
        return self.decoder(torch.tanh(self.encoder(x)))


class TiedLanguageModel(nn.Module):
    """The embedding is the head's weight: one parameter, two names."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.hidden = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(functional.gelu(self.hidden(self.embed(ids))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, num_layers=2, batch_first=True, dropout=0.2)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        states, _ = self.lstm(x)
        return self.head(states[:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(20, 8, mode="mean")
        self.head = nn.Linear(8, CLASSES)

    def forward(self, ids):
        return self.head(functional.relu(self.bag(ids)))


class Functional(nn.Module):
    """Parameters of its own and functional calls; no submodules."""

    def __init__(self):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(9, 12) / 4)
        self.b1 = nn.Parameter(torch.randn(9) / 4)
        self.w2 = nn.ParameterList([torch.randn(CLASSES, 9) / 3])
        self.scale = torch.linspace(0.5, 1.5, CLASSES)  # neither a parameter nor a buffer

    def forward(self, x):
        x = functional.layer_norm(functional.linear(x, self.w1, self.b1), (9,))
        return functional.linear(functional.elu(x), self.w2[0]) * self.scale


class Named(nn.Module):
    """Keyword inputs, a mask, several outputs."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8, padding_idx=0)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, ids, mask=None, double=False):
        hidden = torch.tanh(self.mix(self.embed(ids)))
        weight = mask.unsqueeze(-1).float()
        pooled = (hidden * weight).sum(1) / weight.sum(1)
        logits = self.head(pooled)
        return {"hidden": hidden, "scores": 2 * logits if double else logits}


def images(n=4, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 3, 8, 8)).astype(np.float32))


def vectors(n=4, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 12)).astype(np.float32))


def sequences(n=4, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 6, 8)).astype(np.float32))


def ids(n=4, seed=0, vocabulary=11):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, vocabulary, (n, 6)))


def masked(n=4, seed=0):
    mask = np.random.default_rng(seed + 1).integers(0, 2, (n, 6))
    mask[:, 0] = 1
    return {"ids": ids(n, seed, 20), "mask": torch.from_numpy(mask)}


MODULES = {
    "convolutional": (Convolutional, images, {}),
    "residual": (Residual, images, {}),
    "tied autoencoder": (TiedAutoencoder, vectors, {}),
    "tied language model": (TiedLanguageModel, ids, {}),
    "lstm": (Recurrent, lambda n=4, seed=0: sequences(n, seed)[..., :4], {}),
    "transformer": (Attention, sequences, {}),
    "embedding bag": (Bag, ids, {}),
    "functional": (Functional, vectors, {}),
    "keyword inputs": (Named, masked, {"output": "scores"}),
    "sequential": (lambda: nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, CLASSES)), vectors, {}),
}
"""Name -> how to make it, a batch of n for it, and how to read it."""


def settled(make, seed=0):
    """A module whose norms and running statistics are not those of a new one, in evaluation mode."""
    torch.manual_seed(seed)
    module = make()
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("running_mean") or (tensor.ndim == 1 and tensor.is_floating_point()):
            tensor.add_(0.3 * torch.randn(tensor.shape))
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(17)
    return module.eval()


def call(module, inputs):
    return module(**inputs) if isinstance(inputs, dict) else module(inputs)
