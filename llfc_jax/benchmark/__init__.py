"""How fast, how close to the machine's limit, and how much memory: `python -m llfc_jax.benchmark`."""
