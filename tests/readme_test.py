import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_examples_run(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert "32" in capsys.readouterr().out


def test_every_path_named_exists():
    root = Path(__file__).parents[1]
    for name in re.findall(r"`((?:configs|launch|measures|matching)/[\w/]+\.(?:py|sh))`", README):
        assert (root / name).exists() or (root / "llfc_jax" / name).exists(), name
