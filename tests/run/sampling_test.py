"""What language models write: drawn from their distributions, and bounded by the block that they see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.run.sampling import write

CLASSES = 7


def counting(variables, tokens):
    """After each token its successor: a network that counts."""
    return variables * jax.nn.one_hot((tokens + 1) % CLASSES, CLASSES)


def sums(variables, tokens):
    """After each block the sum of all of it that is seen so far."""
    return variables * jax.nn.one_hot(jnp.cumsum(tokens, -1) % CLASSES, CLASSES)


def test_the_likeliest_token_follows_at_temperature_zero():
    found = write(jax.random.key(0), counting, 1.0, np.array([3, 4], np.uint8), 5, 12, 0)
    np.testing.assert_array_equal(found, np.arange(5, 17) % CLASSES)


@pytest.mark.parametrize("block", [1, 3, 20])
def test_as_much_is_seen_as_the_block_holds(block):
    prompt = np.array([2], np.uint8)
    found = write(jax.random.key(0), sums, 1.0, prompt, block, 10, 0)
    text = [2]
    for _ in range(10):
        text.append(sum(text[-block:]) % CLASSES)
    np.testing.assert_array_equal(found, text[1:])


def test_tokens_are_drawn_from_the_softmax_of_logits_over_the_temperature():
    logits = jnp.array([0.0, 1.0, 2.0])

    def constant(variables, tokens):
        return jnp.broadcast_to(logits, (1, tokens.shape[1], 3))

    found = np.asarray(write(jax.random.key(0), constant, 1.0, np.zeros(1, np.uint8), 1, 4000, 0.5))
    expected = np.exp(np.arange(3) / 0.5) / np.exp(np.arange(3) / 0.5).sum()
    np.testing.assert_allclose(np.bincount(found, minlength=3) / 4000, expected, atol=0.02)
    other = write(jax.random.key(1), constant, 1.0, np.zeros(1, np.uint8), 1, 4000, 0.5)
    assert (found != other).any()
