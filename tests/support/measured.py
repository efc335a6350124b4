"""What `llfc_jax.measure` finds along the line between two networks."""

import llfc_jax


def along_line(apply, a, b, inputs, batches, measures, alphas):
    """Measure, and LMC -> what was found; `inputs` are those that the program is read with."""
    program = llfc_jax.read(apply, a, inputs)
    found = llfc_jax.measure(program, a, b, batches, measures=("lmc", *measures), alphas=alphas, num_alphas=5)
    return {name: found[name]["a-b"] for name in ("lmc", *measures)}
