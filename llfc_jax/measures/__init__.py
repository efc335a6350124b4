"""What is measured along the path from one network to another: a file for each measure."""

MEASURES = {
    "lmc": "llfc_jax.measures.lmc",
    "llfc": "llfc_jax.measures.llfc",
    "weak_additivity": "llfc_jax.measures.weak_additivity",
    "commutativity": "llfc_jax.measures.commutativity",
    "deviation": "llfc_jax.measures.deviation",
    "stitching": "llfc_jax.measures.stitching",
    "principal_angles": "llfc_jax.measures.principal_angles",
    "effective_rank": "llfc_jax.measures.effective_rank",
    "theory": "llfc_jax.measures.theory",
}
"""Name, as in `config.measures` and `results.json` -> the module whose `measure(options)` it is.

They are taken in this order: one may read the entries of those before it.
"""
