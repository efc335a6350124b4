"""Small networks of many kinds, each with the sizes of its group's permutations by derivation.

Sizes are listed as they act: one that moves at each position of another in its own way is listed once, with
the other's name, as in `4 in 3`: 4 positions, at each of 3 others.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Small(NamedTuple):
    """A network, the shapes of its weights, its input, and its permutations.

    Attributes:
        apply: `apply(weights, x)`.
        shapes: name -> shape.
        x: its input.
        group: sizes of the permutations, each after those that it moves within.
        told_apart: array -> axis along which ties would decide.
    """

    apply: Callable[..., Any]
    shapes: Mapping[str, tuple[int, ...]]
    x: Any
    group: list[tuple[int, ...]]
    told_apart: Mapping[str, int] = {}

    @property
    def weights(self):
        rng = np.random.default_rng(0)
        spread = {name: np.sqrt(max(np.prod(shape[:-1]), 1)) for name, shape in self.shapes.items()}
        return {
            name: jax.device_put(np.float32(rng.normal(size=shape) / spread[name]))
            for name, shape in self.shapes.items()
        }


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


X, SEQUENCE, IMAGES = normal(16, 5), normal(3, 6, 5), normal(2, 6, 6, 3)
TOKENS = np.random.default_rng(2).integers(0, 7, (4, 5)).astype(np.int32)


def between(act, hidden=8, x=X, group=None):
    """Two layers of 8 and 6 units with something that has no say between them."""

    def apply(w, x):
        return jnp.tanh(act(x @ w["in"]) @ w["mid"]) @ w["out"]

    shapes = {"in": (x.shape[-1], 8), "mid": (hidden, 6), "out": (6, 2)}
    return Small(apply, shapes, x, [(6,), (8,)] if group is None else group)


def conv(x, kernel, stride=1, groups=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=numbers, feature_group_count=groups
    )


def inception(w, x):
    branches = [conv(x, w["one"]), conv(jax.nn.softplus(conv(x, w["reduce"])), w["three"]), x]
    return jnp.tanh(jnp.concatenate(branches, -1)).mean((1, 2)) @ w["out"]


def u_net(w, x):
    down = jnp.tanh(conv(x, w["first"]))
    low = jnp.tanh(conv(down, w["second"], stride=2))
    up = jnp.repeat(jnp.repeat(low, 2, axis=1), 2, axis=2)
    return conv(jnp.tanh(conv(jnp.concatenate([up, down], -1), w["third"])), w["out"])


def dense_block(w, x):
    h = jnp.tanh(conv(x, w["stem"]))
    for name in ("first", "second"):
        h = jnp.concatenate([h, jnp.tanh(conv(h, w[name]))], -1)
    return (h * w["scale"]).mean((1, 2)) @ w["out"]


def padded_stages(w, x):
    h = jnp.tanh(conv(x, w["stem"]))
    short = jnp.pad(h[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (1, 2)))
    h = jnp.tanh(short + conv(jnp.tanh(conv(h, w["up"], stride=2)), w["down"]))
    return h.mean((1, 2)) @ w["out"]


def shuffled_channels(w, x):
    h = conv(x, w["in"])
    h = conv(jnp.tanh(h), w["grouped"], groups=2)
    h = h.reshape(*h.shape[:3], 2, 3).swapaxes(3, 4).reshape(*h.shape[:3], 6)
    return jnp.tanh(h).mean((1, 2)) @ w["out"]


def squeezed(w, x):
    h = conv(x, w["in"])
    gate = jax.nn.sigmoid(jnp.tanh(h.mean((1, 2)) @ w["squeeze"]) @ w["excite"])
    return (jnp.tanh(h) * gate[:, None, None]).mean((1, 2)) @ w["out"]


def group_normed(w, x):
    h = conv(x, w["in"])
    h = h.reshape(*h.shape[:3], 2, 3)
    h = (h - h.mean((1, 2, 4), keepdims=True)) / jnp.sqrt(h.var((1, 2, 4), keepdims=True) + 0.1)
    return jnp.exp(h.reshape(*h.shape[:3], 6) * w["scale"]).mean((1, 2)) @ w["out"]


def attended(q, k, v):
    """(n, length, heads, inner) each."""
    pattern = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
    return jnp.einsum("bhqk,bkhd->bqhd", pattern, v).reshape(*q.shape[:2], -1)


def layer_norm(h):
    return (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 0.1)


def gpt(w, tokens):
    """Queries, keys and values in one matrix; the table is the head."""
    h = w["table"][tokens] + w["positions"]
    q, k, v = (x.reshape(*h.shape[:2], 2, 3) for x in jnp.split(layer_norm(h) * w["scale"] @ w["qkv"], 3, -1))
    h = h + attended(q, k, v) @ w["proj"]
    h = h + jax.nn.gelu(layer_norm(h) * w["scale2"] @ w["up"]) @ w["down"]
    return h @ w["table"].T


def heads_first_fused(w, x):
    """One matrix whose columns are (heads, 3, inner), as in GPT-NeoX."""
    h = x @ w["embed"]
    q, k, v = jnp.moveaxis((h @ w["qkv"]).reshape(*h.shape[:2], 2, 3, 4), 3, 0)
    return attended(q, k, v) @ w["proj"]


def one_key_for_all(w, x):
    """Multi-query attention."""
    q = jnp.einsum("bld,dhk->blhk", x, w["q"])
    pattern = jax.nn.softmax(jnp.einsum("bqhd,bkd->bhqk", q, x @ w["k"]))
    return jnp.einsum("bhqk,bkd,hdm->bqm", pattern, x @ w["v"], w["o"])


def parallel_block(w, x):
    """Attention and MLP read one fused projection, as in GPT-J and PaLM."""
    h = x @ w["embed"]
    q, k, v, f = jnp.split(h @ w["fused"], [3, 6, 10], -1)
    pattern = jax.nn.softmax(q @ k.swapaxes(1, 2))
    return (h + pattern @ v @ w["proj"] + jax.nn.gelu(f) @ w["down"]) @ w["out"]


def cross_attention(w, x):
    """Learned queries read the input: a permutation of the queries is one, too."""
    q = w["latents"] @ w["q"]
    pattern = jax.nn.softmax(jnp.einsum("qd,bkd->bqk", q, x @ w["k"]))
    return jnp.tanh(jnp.einsum("bqk,bkd->bqd", pattern, x @ w["v"])).mean(1) @ w["out"]


def lstm(w, x):
    def step(state, x):
        h, c = state
        i, f, g, o = jnp.split(x @ w["in"] + h @ w["recurrent"] + w["bias"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((len(x), 6))
    return lax.scan(step, (zero, zero), x.swapaxes(0, 1))[0][0] @ w["out"]


def gru(w, x):
    def step(h, x):
        r, z = jnp.split(jax.nn.sigmoid(x @ w["gates"] + h @ w["recurrent"]), 2, -1)
        n = jnp.tanh(x @ w["new"] + r * (h @ w["candidate"]))
        return (1 - z) * n + z * h, None

    return lax.scan(step, jnp.zeros((len(x), 6)), x.swapaxes(0, 1))[0] @ w["out"]


def scanned_attention(w, x):
    def layer(h, p):
        q, k, v = (jnp.einsum("bld,dhk->blhk", h, p[name]) for name in "qkv")
        h = h + attended(q, k, v) @ p["o"]
        return h + jax.nn.gelu(h @ p["up"]) @ p["down"], None

    layers = {name: w[name] for name in ("q", "k", "v", "o", "up", "down")}
    return lax.scan(layer, x @ w["in"], layers)[0].mean(1) @ w["out"]


def ensemble(w, x):
    """Members side by side, averaged: they, too, are permuted."""
    member = jax.vmap(lambda w: jnp.tanh(jnp.tanh(x @ w["a"]) @ w["b"]) @ w["c"])
    return member(w).mean(0)


def mixture(route):
    def apply(w, x):
        h = x @ w["in"]
        gates = route(jax.nn.softmax(h @ w["route"]))
        hidden = jax.nn.gelu(jnp.einsum("nd,edf->nef", h, w["up"]))
        return (h + jnp.einsum("ne,nef,efd->nd", gates, hidden, w["down"])) @ w["out"]

    shapes = {"in": (5, 6), "route": (6, 3), "up": (3, 6, 4), "down": (3, 4, 6), "out": (6, 2)}
    return Small(apply, shapes, X, [(3,), (3, 4), (6,)], {"route": 1})


def best_two(gates):
    values, chosen = lax.top_k(gates, 2)
    return (jax.nn.one_hot(chosen, 3) * values[..., None]).sum(-2)


def looked_up_experts(w, x):
    """Each example's expert is looked up, not masked."""
    chosen = jnp.argmax(x @ w["route"], -1)
    hidden = jnp.tanh(jnp.einsum("nd,ndf->nf", x, w["up"][chosen]))
    return jnp.einsum("nf,nfk->nk", hidden, w["down"][chosen])


def best_two_looked_up(w, x):
    gates, chosen = lax.top_k(jax.nn.softmax(x @ w["route"]), 2)
    hidden = jnp.tanh(jnp.einsum("nd,nkdf->nkf", x, w["up"][chosen]))
    return jnp.einsum("nk,nkf,nkfo->no", gates, hidden, w["down"][chosen])


def gated_looked_up(w, x):
    """Example by example; gate and value are fused in each expert."""

    def one(x):
        chosen = jnp.argmax(x @ w["route"])
        gate, value = jnp.split(x @ w["up"][chosen], 2)
        return (jax.nn.silu(gate) * value + w["bias"][chosen]) @ w["down"][chosen]

    return jax.vmap(one)(x)


def scanned_looked_up(w, x):
    """In each layer, each token's best two, one after the other."""

    def one(token, layer):
        gates, chosen = lax.top_k(jax.nn.softmax(token @ layer["route"]), 2)
        experts = (jnp.tanh(token @ layer["up"][i]) @ layer["down"][i] for i in chosen)
        return token + sum(gate * expert for gate, expert in zip(gates, experts, strict=True))

    def block(h, layer):
        return jax.vmap(jax.vmap(partial(one, layer=layer)))(h), None

    layers = {name: w[name] for name in ("route", "up", "down")}
    return lax.scan(jax.checkpoint(block), x @ w["embed"], layers)[0] @ w["out"]


def ragged_experts(w, x):
    """Examples come sorted by their expert; the order of experts is the data's."""
    sizes = jnp.array([5, 7, 4], jnp.int32)
    return lax.ragged_dot(jnp.tanh(lax.ragged_dot(x, w["up"], sizes)), w["down"], sizes)


def sparse_autoencoder(w, x):
    """The features that are most active, whatever their order, write back."""
    code = jax.nn.softplus(x @ w["encode"])
    values, chosen = lax.top_k(code, 3)
    return jnp.einsum("nk,nkd->nd", values, w["decode"][chosen])


def written_back(w, x):
    """The same, by writing the most active into zeros, as they were sorted."""
    code, rows = jax.nn.softplus(x @ w["encode"]), jnp.arange(len(x))[:, None]
    chosen = jnp.argsort(code, -1)[:, ::-1][:, :3]
    return jnp.zeros_like(code).at[rows, chosen].set(code[rows, chosen]) @ w["decode"]


def best_two_written(gates):
    """The gates of a mixture as PyTorch's `scatter` makes them."""
    values, chosen = lax.top_k(gates, 2)
    return jnp.put_along_axis(jnp.zeros_like(gates), chosen, values, -1, inplace=False)


def keys_beside_values(w, x):
    """One matrix whose columns are (groups, keys and values), each group of keys for two queries."""
    h = x @ w["embed"]
    q = (h @ w["q"]).reshape(*h.shape[:2], 3, 2, 4)
    k, v = jnp.split((h @ w["kv"]).reshape(*h.shape[:2], 3, 8), 2, -1)
    pattern = jax.nn.softmax(jnp.einsum("bqgrd,bkgd->bgrqk", q, k))
    return jnp.einsum("bgrqk,bkgd->bqgrd", pattern, v).reshape(*h.shape[:2], -1) @ w["proj"]


def turned(x):
    """Rotary positions, by halves."""
    angles = np.float32(np.arange(6)[:, None] / 10 ** (np.arange(2) / 2))
    both = np.concatenate([angles, angles], -1)[None, :, None]
    first, second = jnp.split(x, 2, -1)
    return x * np.cos(both) + jnp.concatenate([-second, first], -1) * np.sin(both)


def queries_beside_their_key(w, x):
    """One matrix whose columns are (groups, two queries with their key and value, inner), as in InternLM2."""
    h = x @ w["embed"]
    fused = (h @ w["qkv"]).reshape(*h.shape[:2], 2, 4, 4)
    q = turned(fused[..., :2, :].reshape(*h.shape[:2], 4, 4))
    k, v = (jnp.repeat(part, 2, 2) for part in (turned(fused[..., 2, :]), fused[..., 3, :]))
    return attended(q, k, v) @ w["proj"]


def quantised(w, x):
    """The nearest entry of a codebook stands for the input."""
    h = jnp.tanh(x @ w["in"])
    distances = ((h[:, None] - w["book"]) ** 2).sum(-1)
    chosen = w["book"][jnp.argmin(distances, -1)]
    return (chosen + h - lax.stop_gradient(h)) @ w["out"]


SENDERS, RECEIVERS = np.array([0, 1, 2, 3, 4, 0, 7]), np.array([1, 2, 3, 4, 5, 9, 0])


def message_passing(w, x):
    h = jnp.tanh(x @ w["in"])
    summed = jax.ops.segment_sum(h[SENDERS] @ w["message"], RECEIVERS, len(x))
    return jnp.tanh(h @ w["own"] + summed) @ w["out"]


def cached(w, x):
    h = jnp.tanh(x @ w["in"])
    return jnp.tanh(jnp.zeros((len(x), 4, 8)).at[:, 1].set(h).sum(1) @ w["mid"]) @ w["out"]


def associative(w, x):
    u = x @ w["in"]
    decay = jnp.broadcast_to(jax.nn.sigmoid(w["decay"]), u.shape)
    _, h = lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (decay, u), axis=1)
    return jnp.tanh(h).mean(1) @ w["out"]


def selective(w, x):
    """Mamba's block: one projection for stream and gate, a step size for each channel, a state for each."""
    h, gate = jnp.split(x @ w["in"], 2, -1)
    step = jax.nn.softplus(h @ w["step_down"] @ w["step_up"])
    into, out = h @ w["into"], h @ w["from"]

    def one(state, now):
        h, step, into, out = now
        state = jnp.exp(-step[..., None] * jnp.exp(w["decay"])) * state
        state = state + (step * h)[..., None] * into[:, None]
        return state, (state * out[:, None]).sum(-1)

    moved = [z.swapaxes(0, 1) for z in (h, step, into, out)]
    _, y = lax.scan(one, jnp.zeros((len(x), 6, 4)), moved)
    return (y.swapaxes(0, 1) * jax.nn.silu(gate)) @ w["out"]


@jax.custom_jvp
def straight_sign(h):
    return jnp.tanh(3 * h)


straight_sign.defjvp(lambda primals, tangents: (straight_sign(*primals), tangents[0]))


@jax.custom_vjp
def clipped(h):
    return jnp.tanh(h)


def _clipped_forward(h):
    return jnp.tanh(h.value), None


clipped.defvjp(
    _clipped_forward,
    lambda _, g: (None if isinstance(g, jax.custom_derivatives.SymbolicZero) else g,),
    symbolic_zeros=True,
)

batched_alone = jax.custom_batching.custom_vmap(jnp.tanh)
batched_alone.def_vmap(lambda size, batched, h: (jnp.tanh(h), True))


def printed(h):
    jax.debug.callback(lambda h: None, h)
    return jnp.tanh(h)


def sharded(f):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")
    return jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec)


def solved(h):
    """A linear system for each example whose right sides are the channels."""
    return jnp.linalg.solve(jnp.eye(6) + 0.1 * SYSTEM, h)


SYSTEM = normal(6, 6)
COMPLEX = {"in": (5, 6), "decay": (6,), "out": (6, 2)}


def low_rank(w, x):
    return jnp.tanh(x @ (w["in"] + w["left"] @ w["right"])) @ w["out"]


def tied_autoencoder(w, x):
    return jnp.tanh(x @ w["in"]) @ w["in"].T


def siamese(w, x):
    one, two = (jnp.tanh(jnp.tanh(z @ w["in"]) @ w["mid"]) for z in (x, x[::-1]))
    return jnp.abs(one - two) @ w["out"]


def bilinear(w, x):
    return jnp.einsum("ni,ijk,nj->nk", jnp.tanh(x @ w["left"]), w["middle"], jnp.tanh(x @ w["right"]))


def hypernetwork(w, x):
    """The weights of one layer are another's outputs."""
    made = (jnp.tanh(x.mean(0) @ w["in"]) @ w["make"]).reshape(5, 6)
    return jnp.tanh(x @ made) @ w["out"]


def looped_experts(w, x):
    """Layers and experts taken out of stacks one by one, beside an expert that all share."""
    h = x @ w["in"]
    for layer in range(2):
        gates = jax.nn.softmax(h @ w["route"][layer])
        experts = (jax.nn.gelu(h @ w["up"][layer, e]) @ w["down"][layer, e] for e in range(3))
        h = h + sum(gates[:, e, None] * expert for e, expert in enumerate(experts))
        h = h + jax.nn.gelu(h @ w["shared"][layer]) @ w["back"][layer]
    return h @ w["out"]


def masked_experts(w, x):
    """Each expert sees all and is masked where it isn't among the best two."""
    gates, chosen = lax.top_k(jax.nn.softmax(x @ w["route"]), 2)
    out = jnp.zeros((len(x), 2))
    for e in reversed(range(3)):
        share = jnp.where(chosen == e, gates, 0).sum(-1, keepdims=True)
        out = out + share * (jax.nn.gelu(x @ w["up"][e]) @ w["down"][e])
    return out


def looped_heads(w, x):
    """Heads by slices of fused queries, keys and values, concatenated."""
    h = x @ w["embed"]
    parts = zip(*(jnp.split(part, 3, -1) for part in jnp.split(h @ w["qkv"], 3, -1)), strict=True)
    heads = [jax.nn.softmax(q @ k.swapaxes(1, 2)) @ v for q, k, v in parts]
    return jnp.concatenate(heads, -1) @ w["proj"]


def loop_in_a_loop(w, x):
    out = 0
    for e in range(3):
        shares = jax.nn.softmax(x @ w["share"][e])
        inner = sum(shares[:, i, None] * (jnp.tanh(x @ w["up"][e, i]) @ w["mid"][e, i]) for i in range(2))
        out = out + jax.nn.sigmoid(x @ w["gate"][:, e : e + 1]) * (jnp.tanh(inner) @ w["down"][e])
    return out


def scanned_sum(w, x):
    """A loop that does nothing but add has no order."""

    def add(total, expert):
        gate, up, down = expert
        return total + gate[:, None] * (jnp.tanh(x @ up) @ down), None

    gates = jax.nn.softmax(x @ w["route"]).T
    return lax.scan(add, jnp.zeros((len(x), 2)), (gates, w["up"], w["down"]))[0]


def mapped_experts(w, x):
    each = lax.map(lambda expert: jnp.tanh(x @ expert[0]) @ expert[1], (w["up"], w["down"]))
    return jnp.einsum("ne,enk->nk", jax.nn.softmax(x @ w["route"]), each)


def read_outside_of_the_loop(w, x):
    hidden = [jnp.tanh(x @ w["up"][i]) for i in range(3)]
    return sum(h @ w["down"][i] for i, h in enumerate(hidden)), hidden[0] @ w["down"][1]


def diagonal_states(w, x):
    """S4's diagonal form: each channel has states of its own."""
    u = x @ w["in"]
    decay = jnp.broadcast_to(jnp.exp(-jnp.exp(w["decay"])), (*u.shape, 4))
    driven = u[..., None] * w["into"]
    _, h = lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (decay, driven), axis=1)
    return jax.nn.gelu((h * w["from"]).sum(-1) + w["skip"] * u) @ w["out"]


def cosine_attention(w, x):
    """Each head has a temperature of its own."""
    q, k, v = (jnp.einsum("bld,dhk->blhk", x, w[name]) for name in "qkv")
    q, k = (z / jnp.linalg.norm(z, axis=-1, keepdims=True) for z in (q, k))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * jnp.exp(w["temperature"])[:, None, None]
    return jnp.einsum("bhqk,bkhd,hdo->bqo", jax.nn.softmax(scores), v, w["o"])


def relative_bias(w, x):
    """Of each head, looked up by distance, as in T5."""
    h = x @ w["in"]
    q, k, v = ((h @ w[name]).reshape(*h.shape[:2], 2, 3) for name in "qkv")
    distance = np.clip(np.arange(6)[None] - np.arange(6)[:, None], -2, 2) + 2
    bias = w["relative"][distance].transpose(2, 0, 1)
    pattern = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) + bias)
    return jnp.einsum("bhqk,bkhd->bqhd", pattern, v).reshape(*h.shape[:2], 6) @ w["o"]


def penalised_by_distance(w, x):
    """Each head by a slope that is given, as in ALiBi: heads stay."""
    h = x @ w["in"]
    q, k, v = ((h @ w[name]).reshape(*h.shape[:2], 2, 3) for name in "qkv")
    slopes = np.float32([0.5, 0.25])[:, None, None]
    bias = -np.abs(np.arange(6)[None] - np.arange(6)[:, None]) * slopes
    pattern = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) + bias)
    return jnp.einsum("bhqk,bkhd->bqhd", pattern, v).reshape(*h.shape[:2], 6) @ w["o"]


def mixture_density(w, x):
    """The likelihood under a mixture whose components a network makes."""
    h = jnp.tanh(x @ w["in"])
    centres, spread = (h @ w["centres"]).reshape(len(x), 3, 2), h @ w["spread"]
    distance = ((x[:, None, :2] - centres) ** 2).sum(-1)
    fit = -distance * jnp.exp(-2 * spread) / 2 - 2 * spread
    return jax.nn.logsumexp(jax.nn.log_softmax(h @ w["shares"]) + fit, -1)


def graph_attention(w, x):
    """Every node attends to the one three before, and to itself."""
    h = jnp.einsum("nd,dhk->nhk", x, w["w"])
    senders = np.concatenate([np.arange(16), np.arange(16)])
    receivers = np.concatenate([np.arange(16), np.roll(np.arange(16), 3)])
    scores = jax.nn.leaky_relu((h * w["from"]).sum(-1)[senders] + (h * w["to"]).sum(-1)[receivers])
    shares = jnp.exp(scores - jax.ops.segment_max(scores, receivers, 16)[receivers])
    shares = shares / jax.ops.segment_sum(shares, receivers, 16)[receivers]
    summed = jax.ops.segment_sum(shares[..., None] * h[senders], receivers, 16)
    return jnp.tanh(summed.reshape(16, -1)) @ w["out"]


def pixel_shuffle(w, x):
    h = conv(jnp.tanh(conv(x, w["first"])), w["second"])
    n, height, width, _ = h.shape
    h = h.reshape(n, height, width, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5)
    return conv(jnp.tanh(h.reshape(n, 2 * height, 2 * width, 3)), w["out"])


def normed_weights(w, x):
    direction = w["in"] / jnp.linalg.norm(w["in"], axis=0)
    return jnp.tanh(x @ (direction * w["length"])) @ w["out"]


def maxout(w, x):
    return (x @ w["in"]).reshape(len(x), 4, 3).max(-1) @ w["out"]


def looped_queries(w, x):
    """Query heads one by one, all with one key and one value, added up."""
    key, value = x @ w["k"], x @ w["v"]
    heads = (slice(4 * i, 4 * i + 4) for i in range(3))
    return sum(
        jax.nn.softmax((x @ w["q"][:, own]) @ key.swapaxes(1, 2)) @ value @ w["o"][own] for own in heads
    )


EXPERTS = {"route": (5, 3), "up": (3, 5, 4), "down": (3, 4, 2)}

ATTENTION = {"in": (5, 6), "q": (6, 6), "k": (6, 6), "v": (6, 6), "o": (6, 2)}

NETWORKS = {
    "inception": Small(
        inception,
        {"one": (1, 1, 3, 4), "reduce": (1, 1, 3, 2), "three": (3, 3, 2, 5), "out": (12, 2)},
        IMAGES,
        [(4,), (2,), (5,)],
    ),
    "u-net": Small(
        u_net,
        {"first": (3, 3, 3, 4), "second": (3, 3, 4, 5), "third": (3, 3, 9, 4), "out": (1, 1, 4, 2)},
        IMAGES,
        [(4,), (5,), (4,)],
    ),
    "dense block": Small(
        dense_block,
        {"stem": (3, 3, 3, 4), "first": (3, 3, 4, 3), "second": (3, 3, 7, 3), "scale": (10,), "out": (10, 2)},
        IMAGES,
        [(4,), (3,), (3,)],
    ),
    "padded stages": Small(
        padded_stages,
        {"stem": (3, 3, 3, 4), "up": (3, 3, 4, 5), "down": (3, 3, 5, 7), "out": (7, 2)},
        IMAGES,
        [(4,), (5,), (3,)],
    ),
    "shuffled channels": Small(
        shuffled_channels,
        {"in": (1, 1, 3, 4), "grouped": (3, 3, 2, 6), "out": (6, 2)},
        IMAGES,
        [(2,), (2, 2), (2, 3)],
    ),
    "squeeze and excite": Small(
        squeezed,
        {"in": (3, 3, 3, 6), "squeeze": (6, 3), "excite": (3, 6), "out": (6, 2)},
        IMAGES,
        [(6,), (3,)],
    ),
    "group norm": Small(
        group_normed, {"in": (3, 3, 3, 6), "scale": (6,), "out": (6, 2)}, IMAGES, [(2,), (2, 3)]
    ),
    "gpt": Small(
        gpt,
        {
            **{"table": (7, 6), "positions": (5, 6), "scale": (6,), "qkv": (6, 18), "proj": (6, 6)},
            **{"scale2": (6,), "up": (6, 8), "down": (8, 6)},
        },
        TOKENS,
        [(6,), (2,), (2, 3), (2, 3), (8,)],
    ),
    "heads-first fused attention": Small(
        heads_first_fused,
        {"embed": (5, 6), "qkv": (6, 24), "proj": (8, 2)},
        SEQUENCE,
        [(6,), (2,), (2, 4), (2, 4)],
    ),
    "multi-query attention": Small(
        one_key_for_all,
        {"q": (5, 3, 4), "k": (5, 4), "v": (5, 4), "o": (3, 4, 2)},
        SEQUENCE,
        [(3,), (4,), (4,)],
    ),
    "parallel block": Small(
        parallel_block,
        {"embed": (5, 6), "fused": (6, 17), "proj": (4, 6), "down": (7, 6), "out": (6, 2)},
        SEQUENCE,
        [(6,), (3,), (4,), (7,)],
    ),
    "cross-attention": Small(
        cross_attention,
        {"latents": (3, 6), "q": (6, 4), "k": (5, 4), "v": (5, 4), "out": (4, 2)},
        SEQUENCE,
        [(3,), (6,), (4,), (4,)],
    ),
    "lstm": Small(
        lstm, {"in": (5, 24), "recurrent": (6, 24), "bias": (24,), "out": (6, 2)}, SEQUENCE, [(6,)]
    ),
    "gru": Small(
        gru,
        {"gates": (5, 12), "recurrent": (6, 12), "new": (5, 6), "candidate": (6, 6), "out": (6, 2)},
        SEQUENCE,
        [(6,)],
    ),
    "scanned transformer": Small(
        scanned_attention,
        {
            **{"in": (5, 6), "q": (2, 6, 2, 3), "k": (2, 6, 2, 3), "v": (2, 6, 2, 3), "o": (2, 6, 6)},
            **{"up": (2, 6, 4), "down": (2, 4, 6), "out": (6, 2)},
        },
        SEQUENCE,
        [(6,), (2,), (2,), *[(2, 3)] * 4, (4,), (4,)],
    ),
    "ensemble": Small(ensemble, {"a": (3, 5, 4), "b": (3, 4, 3), "c": (3, 3, 2)}, X, [(3,), (3, 4), (3, 3)]),
    "soft mixture": mixture(lambda gates: gates),
    "mixture of the best two": mixture(best_two),
    "switch": mixture(lambda gates: jax.nn.one_hot(jnp.argmax(gates, -1), 3) * gates),
    "looked-up experts": Small(
        looked_up_experts,
        {"route": (5, 3), "up": (3, 5, 4), "down": (3, 4, 2)},
        X,
        [(3,), (3, 4)],
        {"route": 1},
    ),
    "best two looked up": Small(
        best_two_looked_up,
        {"route": (5, 3), "up": (3, 5, 4), "down": (3, 4, 2)},
        X,
        [(3,), (3, 4)],
        {"route": 1},
    ),
    "gated looked-up experts": Small(
        gated_looked_up,
        {"route": (5, 3), "up": (3, 5, 8), "bias": (3, 4), "down": (3, 4, 2)},
        X,
        [(3,), (3, 4)],
        {"route": 1},
    ),
    "scanned looked-up experts": Small(
        scanned_looked_up,
        {
            **{"embed": (5, 6), "route": (2, 6, 3), "up": (2, 3, 6, 4), "down": (2, 3, 4, 6)},
            "out": (6, 2),
        },
        SEQUENCE,
        [(6,), (3,), (3,), (3, 4), (3, 4)],
    ),
    "ragged experts": Small(ragged_experts, {"up": (3, 5, 4), "down": (3, 4, 2)}, X, [(4,), (4,), (4,)]),
    "sparse autoencoder": Small(
        sparse_autoencoder, {"encode": (5, 8), "decode": (8, 5)}, X, [(8,)], {"encode": 1}
    ),
    "sparse code written back": Small(
        written_back, {"encode": (5, 8), "decode": (8, 5)}, X, [(8,)], {"encode": 1}
    ),
    "mixture of the best two written": mixture(best_two_written),
    "keys beside values": Small(
        keys_beside_values,
        {"embed": (5, 6), "q": (6, 24), "kv": (6, 24), "proj": (24, 5)},
        SEQUENCE,
        [(3,), (3, 2), (3, 4), (3, 4), (6,)],
    ),
    "queries beside their key": Small(
        queries_beside_their_key,
        {"embed": (5, 6), "qkv": (6, 32), "proj": (16, 2)},
        SEQUENCE,
        [(2,), (2, 2), (2, 4), (6,)],
    ),
    "codebook": Small(quantised, {"in": (5, 4), "book": (6, 4), "out": (4, 2)}, X, [(4,), (6,)], {"book": 0}),
    "message passing": Small(
        message_passing,
        {"in": (5, 6), "message": (6, 4), "own": (6, 4), "out": (4, 2)},
        X,
        [(6,), (4,)],
    ),
    "cache": Small(cached, {"in": (5, 8), "mid": (8, 6), "out": (6, 2)}, X, [(8,), (6,)]),
    "associative scan": Small(associative, {"in": (5, 8), "decay": (8,), "out": (8, 2)}, SEQUENCE, [(8,)]),
    "selective state space": Small(
        selective,
        {
            **{"in": (5, 12), "step_down": (6, 2), "step_up": (2, 6), "into": (6, 4), "from": (6, 4)},
            **{"decay": (6, 4), "out": (6, 2)},
        },
        SEQUENCE,
        [(6,), (2,), (4,)],
    ),
    "custom jvp": between(straight_sign),
    "custom vjp with symbolic zeros": between(clipped),
    "custom vmap": between(batched_alone),
    "composite": between(lambda h: lax.composite(lambda h: jnp.tanh(h), "my.act")(h)),
    "callback beside": between(printed),
    "shard_map": between(sharded(jnp.tanh)),
    "pmap": between(lambda h: jax.pmap(jnp.tanh)(h[None])[0]),
    "checkpoint": between(jax.checkpoint(lambda h: jnp.sin(h) * h)),
    "fourier transform over time": between(lambda h: jnp.fft.rfft(h, axis=1).real, x=SEQUENCE),
    "linear systems": between(solved, x=SEQUENCE),
    "cumulative sum": between(lambda h: jnp.cumsum(h, -1), group=[(6,)]),
    "callback within": between(
        lambda h: jax.pure_callback(np.tanh, h, h, vmap_method="sequential"), group=[(6,)]
    ),
    "low rank": Small(
        low_rank, {"in": (5, 8), "left": (5, 3), "right": (3, 8), "out": (8, 2)}, X, [(8,), (3,)]
    ),
    "tied autoencoder": Small(tied_autoencoder, {"in": (5, 8)}, X, [(8,)]),
    "siamese": Small(siamese, {"in": (5, 8), "mid": (8, 6), "out": (6, 2)}, X, [(8,), (6,)]),
    "bilinear": Small(bilinear, {"left": (5, 4), "middle": (4, 6, 2), "right": (5, 6)}, X, [(4,), (6,)]),
    "looped experts": Small(
        looped_experts,
        {
            **{"in": (5, 6), "route": (2, 6, 3), "up": (2, 3, 6, 4), "down": (2, 3, 4, 6)},
            **{"shared": (2, 6, 3), "back": (2, 3, 6), "out": (6, 2)},
        },
        X,
        [(6,), (3,), (3,), (3, 4), (3, 4), (3,), (3,)],
    ),
    "masked experts": Small(masked_experts, EXPERTS, X, [(3,), (3, 4)], {"route": 1}),
    "looped heads": Small(
        looped_heads,
        {"embed": (5, 6), "qkv": (6, 36), "proj": (12, 2)},
        SEQUENCE,
        [(6,), (3,), (3, 4), (3, 4)],
    ),
    "a loop in a loop": Small(
        loop_in_a_loop,
        {
            **{"gate": (5, 3), "share": (3, 5, 2), "up": (3, 2, 5, 4), "mid": (3, 2, 4, 3)},
            "down": (3, 3, 2),
        },
        X,
        [(3,), (3, 2), (3, 2, 4), (3, 3)],
    ),
    "scanned sum": Small(scanned_sum, EXPERTS, X, [(3,), (3, 4)]),
    "mapped experts": Small(mapped_experts, EXPERTS, X, [(3,), (3, 4)]),
    "read outside of the loop": Small(
        read_outside_of_the_loop, {"up": (3, 5, 4), "down": (3, 4, 2)}, X, [(4,), (4,)]
    ),
    "diagonal states": Small(
        diagonal_states,
        {"in": (5, 6), "decay": (6, 4), "into": (6, 4), "from": (6, 4), "skip": (6,), "out": (6, 2)},
        SEQUENCE,
        [(6,), (6, 4)],
    ),
    "cosine attention": Small(
        cosine_attention,
        {"q": (5, 2, 3), "k": (5, 2, 3), "v": (5, 2, 3), "temperature": (2,), "o": (2, 3, 2)},
        SEQUENCE,
        [(2,), (2, 3), (2, 3)],
    ),
    "relative bias": Small(
        relative_bias, {**ATTENTION, "relative": (5, 2)}, SEQUENCE, [(6,), (2,), (2, 3), (2, 3)]
    ),
    "penalised by distance": Small(
        penalised_by_distance, ATTENTION, SEQUENCE, [(6,), (3,), (3,), (3,), (3,)]
    ),
    "mixture density": Small(
        mixture_density,
        {"in": (5, 6), "shares": (6, 3), "centres": (6, 6), "spread": (6, 3)},
        X,
        [(6,), (3,)],
    ),
    "graph attention": Small(
        graph_attention, {"w": (5, 2, 3), "from": (2, 3), "to": (2, 3), "out": (6, 2)}, X, [(2,), (2, 3)]
    ),
    "pixel shuffle": Small(
        pixel_shuffle,
        {"first": (3, 3, 3, 4), "second": (3, 3, 4, 12), "out": (3, 3, 3, 2)},
        IMAGES,
        [(4,), (3,)],
    ),
    "normed weights": Small(normed_weights, {"in": (5, 8), "length": (8,), "out": (8, 2)}, X, [(8,)]),
    "maxout": Small(maxout, {"in": (5, 12), "out": (4, 2)}, X, [(4,), (4, 3)]),
    "looped queries": Small(
        looped_queries, {"q": (5, 12), "k": (5, 4), "v": (5, 4), "o": (12, 2)}, SEQUENCE, [(3,), (4,), (4,)]
    ),
    "hypernetwork": Small(hypernetwork, {"in": (5, 4), "make": (4, 30), "out": (6, 2)}, X, [(4,), (6,)]),
}
"""Name -> network."""
