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
    "layerwise_lmc": "llfc_jax.measures.layerwise_lmc",
    "similarity": "llfc_jax.measures.similarity",
    "variance": "llfc_jax.measures.variance",
    "lewc": "llfc_jax.measures.lewc",
    "reciprocal_orthogonality": "llfc_jax.measures.reciprocal_orthogonality",
    "predictions": "llfc_jax.measures.predictions",
    "temperature": "llfc_jax.measures.temperature",
    "random_direction": "llfc_jax.measures.random_direction",
    "singular_values": "llfc_jax.measures.singular_values",
    "sharpness": "llfc_jax.measures.sharpness",
}
"""Name, as in `config.measures` and `results.json` -> the module whose `measure(options)` it is.

They are taken in this order: one may read the entries of those before it.
"""

STANDARD = (
    *("lmc", "llfc", "weak_additivity", "commutativity", "deviation", "stitching"),
    *("principal_angles", "effective_rank", "theory"),
)
"""LLFC and its causes: what is measured unless something else is asked for."""
