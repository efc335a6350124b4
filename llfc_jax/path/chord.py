"""The chord between the ends of a path's values."""

import numpy as np
from numpy.typing import ArrayLike


def excess(alphas: ArrayLike, values: ArrayLike) -> np.ndarray:
    """L(theta_alpha) - ((1 - alpha) L(theta_A) + alpha L(theta_B)) at every alpha, in float64.

    Example:
        >>> excess([0.0, 0.5, 1.0], [1.0, 4.0, 3.0]).tolist()
        [0.0, 2.0, 0.0]
    """
    x, y = np.asarray(alphas, np.float64), np.asarray(values, np.float64)
    return y - ((1 - x) * y[0] + x * y[-1])
