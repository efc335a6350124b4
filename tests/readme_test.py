import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_examples_run_one_after_another(capsys):
    namespace, outputs = {}, []
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(code, "README.md", "exec"), namespace)
        outputs.append(capsys.readouterr().out)
    data, linen, nnx, plain = outputs
    assert data == ""
    error, barrier, *layers = linen.splitlines()
    assert float(error) < 1e-5
    assert float(barrier) >= 0
    assert [line.split()[0] for line in layers] == [f"layers_{index}" for index in range(5)]
    assert [line.split()[0] for line in nnx.splitlines()] == ["layers/0", "layers/2"]
    assert plain.startswith("1 permutation\nP0 (32): in[1], out[0] ")


def test_every_path_named_exists():
    root = Path(__file__).parents[1]
    for name in re.findall(r"`((?:configs|launch|measures|matching)/[\w/]+\.(?:py|sh))`", README):
        assert (root / name).exists() or (root / "llfc_jax" / name).exists(), name
    for name in re.findall(r"\]\(((?:configs|launch)/[\w/.]+)\)", README):
        assert (root / name).exists(), name
