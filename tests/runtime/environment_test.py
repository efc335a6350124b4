"""What is said of the place where a run ran."""

import re
import subprocess

from llfc_jax.runtime import environment


def test_the_commit_is_that_of_the_package_not_of_a_repository_around_it(tmp_path, monkeypatch):
    def git(*arguments):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    package = tmp_path / "package"
    package.mkdir()
    (package / "environment.py").write_text("")
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    who = ["-c", "user.name=x", "-c", "user.email=x@y"]
    git("init")
    git(*who, "commit", "--allow-empty", "--message=outer")
    assert environment.describe()["git_commit"] is None
    git("add", "package")
    git(*who, "commit", "--message=inner")
    commit = environment.describe()["git_commit"]
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (package / "environment.py").write_text("changed")
    assert environment.describe()["git_commit"] == f"{commit}-dirty"
