"""A program as a table that one can read."""

from llfc_jax.program.nodes import Node, Program


def describe(program: Program) -> str:
    """Every node in a line: its name, what it is, its shape, what it is made of, and the weights it reads.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from llfc_jax.program.reading import read
        >>> weights = {"in": jnp.ones((3, 4)), "out": jnp.ones((4, 2))}
        >>> print(describe(read(lambda w, x: jax.nn.relu(x @ w["in"]) @ w["out"], weights, jnp.ones((2, 3)))))
        3 nodes; * stands for samples
        in     dense  (*, 4)  input  in
        relu1  relu   (*, 4)  in
        out    dense  (*, 2)  relu1  out
    """
    rows = [
        (node.name, node.label, _shape(node), ", ".join(node.inputs), ", ".join(node.weights))
        for node in program.nodes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])).rstrip()
        for row in rows
    ]
    loops = [
        f"{node.name} is one node for all steps of a loop" for node in program.nodes if _loops(program, node)
    ]
    skipped = [f"skipped {name}: {why}" for name, why in program.skipped]
    unread = [f"nothing reads {path}" for path in program.unread]
    return "\n".join([f"{len(rows)} nodes; * stands for samples", *lines, *loops, *skipped, *unread])


def _loops(program: Program, node: Node) -> bool:
    return any(program.flat.instructions[i].primitive in ("scan", "while") for i in node.instructions)


def _shape(node: Node) -> str:
    sizes = ["*" if axis == node.sample_axis else str(size) for axis, size in enumerate(node.shape)]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
