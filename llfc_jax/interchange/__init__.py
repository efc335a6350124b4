"""Networks of other programs: reading their files, and writing ours as they want them."""

from llfc_jax.interchange.loading import Source, load_variables, read_variables, source_arrays

__all__ = ["Source", "load_variables", "read_variables", "source_arrays"]
