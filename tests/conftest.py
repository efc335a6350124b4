"""Strictness for all tests: one device, explicit broadcasting, no hidden type promotion surprises."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
