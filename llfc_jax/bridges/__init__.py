"""Networks that other frameworks run, read into JAX as they are."""
