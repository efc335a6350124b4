"""Two independent MLPs on scikit-learn's digits, the second permuted into the basin of the first.

Papers: Git Re-Basin (Ainsworth et al. 2023), figure 2; LLFC (Zhou et al. 2023), section 3. No download.

Expected: both ends about 1 % test error; barrier 1.4 nats before and 0 nats after weight matching; LLFC
distance below 10 % of the baseline in every layer after it. Runtime: under a minute on 2 CPU cores.

    llfc_jax --config=digits_mlp_permutation

What it ends with on 2 cores of an AMD EPYC; another kind of CPU rounds differently, and training makes much
of that:

    Endpoints
          test loss  test error  train loss  train error
    A        0.0318      0.83 %      0.0008       0.00 %
    B        0.0427      0.83 %      0.0015       0.07 %
    π(B)     0.0427      0.83 %      0.0015       0.07 %

    Barriers
            test loss  test error  train loss  train error  LMC  LLFC
    A–B         1.372      24.7 %       1.399       25.5 %   no    no
    A–π(B)          0      0.28 %      0.0119       0.11 %  yes   yes

    LLFC per layer at α = ½: 1 − cos, and as a part of the nearer end's
                A–B                A–π(B)
            1 − cos  end's  part  1 − cos  end's  part
    dense1        0   0.13     0        0  0.067     0
    relu1      0.16   0.23  0.68    0.026  0.089  0.29
    dense2     0.12   0.24  0.48    0.015  0.098  0.15
    relu2      0.19   0.24  0.80    0.025  0.073  0.35
    dense3     0.18   0.24  0.75    0.015   0.11  0.14
    relu3      0.18   0.21  0.83    0.025  0.075  0.33
    dense4     0.22  0.037  5.76    0.011  0.037  0.29
    median                  0.75                  0.29

    A–B: LMC does not hold: barrier 1.372 nats and 24.7 % on test, 1.399 nats and 25.5 % on train; over
    the limit: test loss, test error, train loss, train error. LLFC does not hold: the median layer is
    at 0.75 of the nearer end's distance from the line, the worst at 5.76 (dense4); 2 of 7 layers within
    0.5, not dense4, relu3, relu2 and 2 others.

    A–π(B): LMC holds: barrier 0 nats and 0.28 % on test, 0.0119 nats and 0.11 % on train. LLFC holds:
    the median layer is at 0.29 of the nearer end's distance from the line, the worst at 0.35 (relu2);
    features are shorter than on the line, 0.66 times in dense4.

    LMC: barriers below 2 % and 0.0461 nats, on test and train, for sure (95 %).
    LLFC: at α = ½ every layer at most 0.5 of the nearer end's distance from the line.
    runs/digits_mlp_permutation/report.html
"""

from ml_collections import ConfigDict

from llfc_jax.configs import digits_mlp


def get_config() -> ConfigDict:
    """See the module's docstring."""
    config = digits_mlp.get_config()
    config.name = "digits_mlp_permutation"
    config.train.pair = "independent"
    config.align.method = "weight_matching"
    return config
