"""Linear mode connectivity and layerwise linear feature connectivity of neural networks, in JAX."""

__version__ = "0.1.0"
