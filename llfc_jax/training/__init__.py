"""From an initialisation to trained pairs of networks."""
