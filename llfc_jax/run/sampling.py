"""What language models write: people would rather read than stare at nats."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.evaluation import ApplyFn
from llfc_jax.path.interpolation import lerp
from llfc_jax.run.workbench import SAMPLE_STREAM, Workbench
from llfc_jax.types import Array, PRNGKey, Variables

ALPHAS = (0.0, 0.5, 1.0)


def samples(bench: Workbench, a: Variables, b: Variables) -> dict[str, Any]:
    """What A, the network halfway and B write, each by the same random numbers; for `results.json`."""
    config, block = bench.config.sample, bench.input_shape[0]
    prompt = (config.prompt or "\n").encode()
    known = np.frombuffer(prompt, np.uint8)[-block:]
    key = jax.random.fold_in(jax.random.key(bench.config.seed), SAMPLE_STREAM)
    written = [
        write(key, bench.pipeline.apply, lerp(a, b, alpha), known, block, config.length, config.temperature)
        for alpha in ALPHAS
    ]
    texts = [bytes(np.asarray(text, np.uint8)).decode(errors="replace") for text in written]
    return {
        "alphas": list(ALPHAS),
        "prompt": prompt.decode(),
        "temperature": config.temperature,
        "texts": texts,
    }


@partial(jax.jit, static_argnames=("apply", "block", "length", "temperature"))
def write(
    key: PRNGKey,
    apply: ApplyFn,
    variables: Variables,
    prompt: Array,
    block: int,
    length: int,
    temperature: float,
) -> Array:
    """Tokens that a network draws one after another, each from its distribution given those before.

    Args:
        key: draws them.
        apply: variables, (1, block) tokens -> (1, block, classes) logits, each of what follows its token.
        variables: the network.
        prompt: (at most block,) tokens to go on from, one at least.
        block: how many tokens are seen at a time, the last ones.
        length: how many to draw.
        temperature: by which logits are divided; at 0 the likeliest token is taken.

    Returns:
        (length,) tokens.
    """

    def step(carry: tuple[Array, Array], key: PRNGKey) -> tuple[tuple[Array, Array], Array]:
        text, last = carry
        logits = apply(variables, text[None])[0, last]
        drawn = jax.random.categorical(key, logits / temperature) if temperature else logits.argmax()
        token = drawn.astype(text.dtype)
        is_full = last == block - 1
        text = jnp.where(is_full, jnp.roll(text, -1), text)
        last = jnp.where(is_full, last, last + 1)
        return (text.at[last].set(token), last), token

    text = jnp.zeros(block, prompt.dtype).at[: len(prompt)].set(prompt)
    start = text, jnp.int32(len(prompt) - 1)
    return jax.lax.scan(step, start, jax.random.split(key, length))[1]
