"""What is said under each figure, in HTML: with the numbers of these results, such as how many directions."""

from html import escape

from llfc_jax.reporting import reading
from llfc_jax.reporting.judgement import criteria
from llfc_jax.reporting.reading import Results


def summary(results: Results) -> str:
    """Several paths at once."""
    del results
    return (
        "Loss and error along each path, and how linear its layers are. LLFC: each layer's mean "
        "distance from the line between the ends' features, in units of what the nearer end has: 0 is"
        " on the line, 1 (dotted) no better than an end; dashed is the limit. ▽: below the axis; △: "
        "the features vanish, or leave where both ends agree."
    )


def spawn_sweep(results: Results) -> str:
    """Barriers and LLFC over the spawn epoch."""
    return (
        "Barriers on the test set with their intervals, and LLFC, of pairs that shared their training"
        f" up to epoch k. LLFC: the distance from the line at {_half(results['llfc'])} as a part of "
        "what the nearer end has, median over layers; the band reaches to the worst. Dashed: where "
        "LMC and LLFC end."
    )


def lmc(results: Results) -> str:
    """Loss and error over α."""
    curves = ", on curves of the point at α" if any(map(reading.is_bent, results["lmc"])) else ""
    return (
        f"Loss and error of θ<sub>α</sub> = (1−α) θ<sub>A</sub> + α θ<sub>B</sub>{curves}. Discs mark the "
        "endpoints, dotted lines the chord between them, bands, if there are few curves, the "
        f"{100 * criteria(results).confidence:g} % interval of the excess over it. The barrier is the "
        f"largest excess; an arrow marks the largest in a panel. {_dashed(results['lmc'])}"
    )


def parts(results: Results) -> str:
    """LLFC's verdict, layer by layer."""
    del results
    return (
        "LLFC: each layer's mean distance from the line between the ends' features, in units of what "
        "the nearer end has: 0 is on the line, 1 (dotted) no better than an end; dashed is the limit."
        " ▽: below the axis; △: the features vanish, or leave where both ends agree."
    )


def llfc(results: Results) -> str:
    """Distances as they are."""
    return (
        "1 − cos between f<sup>(ℓ)</sup>(θ<sub>α</sub>) and (1−α) f<sup>(ℓ)</sup>(θ<sub>A</sub>) + α "
        "f<sup>(ℓ)</sup>(θ<sub>B</sub>) for each layer ℓ: median and quartiles over "
        f"{_examples(results)}. Black: the same between f<sup>(ℓ)</sup>(θ<sub>A</sub>) and "
        "f<sup>(ℓ)</sup>(θ<sub>B</sub>). Grey: the mean of what the nearer end has. LLFC holds where "
        "the colours lie far below the grey. ▽: below the axis. †: every feature was zero."
    )


def coefficient(results: Results) -> str:
    """Lengths beside angles."""
    return (
        "⟨u, v⟩ / ‖v‖² for u = f<sup>(ℓ)</sup>(θ<sub>α</sub>) and v = (1−α) "
        "f<sup>(ℓ)</sup>(θ<sub>A</sub>) + α f<sup>(ℓ)</sup>(θ<sub>B</sub>): mean ± standard deviation"
        f" over {_examples(results)}. One (dashed) means that the features interpolate without "
        "shrinking."
    )


def causes(results: Results) -> str:
    """Weak additivity and commutativity."""
    return (
        "Left, weak additivity: 1 − cos between (1−α) σ(h<sub>A</sub>) + α σ(h<sub>B</sub>) and "
        "σ((1−α) h<sub>A</sub> + α h<sub>B</sub>) at the input h of every ReLU σ, median and "
        f"quartiles over {_examples(results)}. Right, commutativity: Dist<sub>com</sub> between "
        "W<sub>A</sub>H<sub>A</sub> + W<sub>B</sub>H<sub>B</sub> and W<sub>A</sub>H<sub>B</sub> + "
        "W<sub>B</sub>H<sub>A</sub> for every linear layer with weights W and inputs H, with the "
        "distances of the weights and of the inputs themselves; dist(x, y) = ‖x − y‖² / (‖x‖ ‖y‖). "
        "Both hold where the values are small, and Dist<sub>com</sub> far below the other two. Zeros "
        "are not drawn."
    )


def deviation(results: Results) -> str:
    """The account of deviations."""
    return (
        "δ = f<sup>(ℓ)</sup>(θ<sub>α</sub>) − v with v = (1−α) f<sup>(ℓ)</sup>(θ<sub>A</sub>) + α "
        f"f<sup>(ℓ)</sup>(θ<sub>B</sub>), at {_half(results['deviation'])} and relative to v; a bar is"
        " as high as ‖δ‖ / ‖v‖ and divided by the shares ⟨part, δ⟩ / ‖δ‖², which sum to one: what the"
        " layer inherits from the layers below, and what arises in it. A part below zero works "
        "against the deviation."
    )


def stitching(results: Results) -> str:
    """Cuts in both directions."""
    del results
    return "Test error of the network whose layers up to ℓ are one network's and the others the other's."


def angles(results: Results) -> str:
    """Principal angles."""
    return (
        f"Principal angles between the subspaces of the {_dimensions(results)} largest singular values"
        " of A's and B's weights (of a layer with fewer units, of all): median, smallest and largest;"
        " none where the subspaces fill the whole space."
    )


def ranks(results: Results) -> str:
    """Effective ranks."""
    del results
    return (
        "Effective rank, the exponential of the entropy of the normalised singular values, of the "
        "features (discs) and of the weights (squares) of θ<sub>α</sub>; where they are alike, a "
        "larger mark shows behind a smaller one."
    )


def training(results: Results) -> str:
    """Curves of training."""
    return (
        "Loss and error over training: solid on the test set, dotted on the training "
        f"set.{_spawned(results['training'])}{_own(results)}"
    )


def spectra(results: Results) -> str:
    """Of the panels that there are."""
    both = {"principal_angles": angles, "effective_rank": ranks}
    said = [caption(results) for measure, caption in both.items() if results.get(measure)]
    return " ".join(said if len(said) == 1 else [f"Left: {said[0]}", f"Right: {said[1]}"])


def _own(results: Results) -> str:
    """What single networks have been trained by, and the others not."""
    of_each = results.get("config", {}).get("only", {})
    said = (
        f" Only {reading.network_label(name)}: {escape(field)}={escape(str(value))}."
        for name, own in of_each.items()
        for field, value in reading.flat(own)
    )
    return "".join(said)


def _half(entries: Results) -> str:
    return reading.half_label(next(iter(entries.values()))["alphas"])


def _examples(results: Results) -> str:
    return reading.count(results["data"]["test_examples"], "test example")


def _dimensions(results: Results) -> str:
    return " or ".join(map(str, sorted({entry["top_k"] for entry in results["principal_angles"].values()})))


def _dashed(lmc: Results) -> str:
    if len(lmc) == 1:
        return "The training set is dashed."
    return "Where a permuted path is shown, the naive one is dashed." * any(map(reading.is_aligned, lmc))


def _spawned(training: Results) -> str:
    return " A vertical line marks the epoch at which spawned children part." * ("trunk" in training)
