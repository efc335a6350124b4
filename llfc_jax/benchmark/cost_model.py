"""How far it goes: what a path costs on machines that are not at hand, on paper.

A path of K networks of P parameters over n examples, in batches of b on D devices, takes, besides compiling,

    K n F / (D r)         forward passes, of F operations an example at r operations a second
    + 16 K (n / b) P / B  theta_alpha of every batch: A and B read, it written and read, at B bytes a second;
                          a D-th of it where a network is held in parts
    + 4 K (n / b) P / L   gathering it, L bytes a second between devices, where a network is held in parts
    + 80 n V / (D B)      LLFC at three alphas and the ends: the V values of an example, written, read thrice

Sums over examples cross the devices once a batch: a few scalars a layer, latency and no bandwidth. The larger
the batch, the closer a path comes to its forward passes alone.

Where r is what bare forward passes get, this is what was measured (`llfc_jax.benchmark`): on 2 cores a path
takes 0.89 (ResNet-20), 1.07 (at width 4), 1.36 (VGG-16) and 0.42 (MLP, whose first layer is computed at the
ends alone) times as long as they, on an H100 0.93 (ResNet-20). Its convolutions of 16 channels run there at
0.16 of the peak; half of it, as here, is what wide layers get.

How it falls with D was measured by `python -m llfc_jax.benchmark.shares 1 2 4`: each of 1, 2 and 4 processes
takes 1.34, 0.67 and 0.44 s of its core for the MLP's path (two cores, with other work on them). What doesn't
divide is what each process does for every batch: it starts the program, and adds up what all have seen. On
CPUs all processes but the first compile in every run, as JAX keeps programs of the first alone.

>>> for work in (RESNET50, GPT):
...     for machine, devices in ((H100, 8), (V5E, 64)):
...         print(describe(work, machine, devices))
ResNet-50, ImageNet's 50,000 images, 8 H100: 46 s (forward passes 41.3, theta_alpha 0.1, LLFC 4.6)
ResNet-50, ImageNet's 50,000 images, 64 TPU v5e: 13 s (forward passes 10.5, theta_alpha 0.3, LLFC 2.4)
GPT of 1 B, a million tokens, 8 H100: 208 s (forward passes 201.5, theta_alpha 0.2, gathering 3.7, LLFC 2.3)
GPT of 1 B, a million tokens, 64 TPU v5e: 61 s (forward passes 51.4, theta_alpha 0.1, gathering 8.2, LLFC 1.2)
"""

from typing import NamedTuple

_FLOAT32 = 4


class Machine(NamedTuple):
    """A device and its way to the others, as the vendor has it."""

    name: str
    flops: float
    """Operations a second on float32."""
    memory: float
    """Bytes a second."""
    link: float
    """Bytes a second to other devices, one way."""
    efficiency: float = 0.5
    """Of `flops`, in a forward pass."""


class Work(NamedTuple):
    """A network and the examples that it sees."""

    name: str
    parameters: float
    flops: float
    """Of a forward pass, for each example."""
    values: float
    """Of all features, for each example."""
    examples: int
    batch: int
    """Examples at a time, on all devices together."""
    in_parts: bool = False
    """Whether a network is split over the devices."""
    networks: int = 27
    """On the path: 25 alphas, and the ends that are compared with."""


H100 = Machine("H100", 67e12, 3.35e12, 450e9)
V5E = Machine("TPU v5e", 197e12 / 6, 819e9, 200e9)  # six passes of bfloat16

RESNET50 = Work("ResNet-50, ImageNet's 50,000 images", 25.6e6, 8.2e9, 31e6, 50_000, 2_048)
GPT = Work("GPT of 1 B, a million tokens", 1e9, 2e9, 24 * 16 * 2_048, 1_000_000, 65_536, True)


def seconds(work: Work, machine: Machine, devices: int) -> dict[str, float]:
    """What takes how long.

    Example:
        >>> twice = RESNET50._replace(examples=2 * RESNET50.examples)
        >>> one, other = (sum(seconds(work, H100, 8).values()) for work in (RESNET50, twice))
        >>> round(other / one, 6)
        2.0
    """
    passes = work.networks * work.examples
    moved = work.networks * (work.examples / work.batch) * _FLOAT32 * work.parameters
    found = {
        "forward passes": passes * work.flops / (devices * machine.efficiency * machine.flops),
        "theta_alpha": 4 * moved / machine.memory / (devices if work.in_parts else 1),
        "gathering": moved / machine.link if work.in_parts else 0.0,
        "LLFC": 5 * 4 * _FLOAT32 * work.examples * work.values / (devices * machine.memory),
    }
    return {name: took for name, took in found.items() if took}


def describe(work: Work, machine: Machine, devices: int) -> str:
    """One line: the whole, and its parts."""
    parts = seconds(work, machine, devices)
    shown = ", ".join(f"{name} {took:.1f}" for name, took in parts.items())
    return f"{work.name}, {devices} {machine.name}: {sum(parts.values()):.0f} s ({shown})"
