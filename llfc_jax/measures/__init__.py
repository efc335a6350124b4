"""What is measured along the path from one network to another."""

MEASURES = (
    "lmc",
    "llfc",
    "weak_additivity",
    "commutativity",
    "deviation",
    "stitching",
    "principal_angles",
    "effective_rank",
)
"""All there are, as `config.measures` and `results.json` name them."""
