"""Input that is wrong in itself: one line for whatever it is, and nothing is made."""

import command
import pytest

WRONG = {
    "no such config file": (
        ["--config=configs/none.py"],
        r"--config: no file configs/none.py; expected one of .*, digits_mlp, .*, or a file of your own",
    ),
    "no such config file, after a space": (
        ["--config", "configs/none.py"],
        r"--config: no file configs/none.py; expected one of .*",
    ),
    "config file with a mistake": (
        ["--config={empty}/../mistaken.py"],
        r"--config=.*/mistaken.py: NameError: name 'nonsense' is not defined",
    ),
    "misspelt field": (
        ["--config.train.epocs=3"],
        r"config.train has no field 'epocs': did you mean 'epochs\'\? expected one of batch_size, .*",
    ),
    "misspelt section": (
        ["--config.trian.epochs=3"],
        r"config has no field 'trian': did you mean 'train'\? expected one of align, .*, train, verdict",
    ),
    "misspelt flag": (["--workdri=x"], r"--workdri: no such flag; did you mean --workdir\?"),
    "wrong type": (
        ["--config.train.epochs=abc"],
        r"config.train.epochs: expected a whole number; found 'abc'",
    ),
    "positional argument": (
        ["train"],
        r"unexpected argument 'train': fields are set as --config.FIELD=VALUE",
    ),
    "alpha beyond the path": (
        ["--config.llfc.alphas=(0.5,1.5)"],
        r"config.llfc.alphas: expected a number in \[0, 1\]; found 1.5",
    ),
    "spawn after the end": (
        ["--config.train.spawn_epochs=4"],
        r"config.train.spawn_epochs: expected train.epochs=3 at most; found 4.0",
    ),
    "unknown measure": (
        ["--config.measures=lmcc"],
        r"config.measures: expected one of lmc, llfc, .*; found 'lmcc'",
    ),
    "unknown model": (
        ["--config.model.name=mpl"],
        r"config.model.name: expected one of mlp, lenet, .*; found 'mpl'",
    ),
    "unknown dataset": (
        ["--config.data.name=mnits"],
        r"data.name='mnits': no such dataset \(did you mean 'mnist'\?\); expected digits, mnist, .*",
    ),
    "unknown split": (
        ["--config.data.test_split=tset"],
        r"data.test_split='tset': no split 'tset'; expected train, test, or a slice .*",
    ),
    "a class of symmetries that the network lacks": (
        ["--config.align.method=procrustes_matching", "--config.align.classes=mean-fixing orthogonal,sign"],
        r"config.align.classes: expected some of those that the network has \(scaling\); found 'mean-fix.*",
    ),
    "unknown optimizer": (
        ["--config.opt.name=sdg"],
        r"config.opt.name: expected one of sgd, adam, adamw; found 'sdg'",
    ),
    "unknown precision": (
        ["--config.train.precision=float16"],
        r"config.train.precision: expected one of float32, tf32, bfloat16; found 'float16'",
    ),
    "batch larger than the data": (
        ["--config.train.batch_size=257"],
        r"config.train.batch_size: expected 256 \(the training data\) at most; found 257",
    ),
    "no data and no network": (
        ["--config.data.name=mnist", "--config.data.data_dir={empty}"],
        r"data.name='mnist' is not in data.data_dir='.*' \(which holds no datasets\) .* no connection to .*",
    ),
    "no data directory": (
        ["--config.data.name=mnist", "--config.data.data_dir={empty}/none"],
        r"data.name='mnist' is not in data.data_dir='.*' \(which does not exist\) .* no connection to .*",
    ),
    "images too small for the model": (
        ["--config=configs/default.py", "--config.model.name=vgg16"],
        r"model.name='vgg16' can't take images of 8x8x1: nothing is left of them at 'pool4'",
    ),
}
BEFORE_JAX = ("no such config file", "misspelt field", "wrong type", "positional argument")


def wrong(name, directory):
    """The command on what is wrong, in an empty directory."""
    (directory / "mistaken.py").write_text("nonsense")
    empty = directory / "data"
    empty.mkdir()
    arguments = [argument.format(empty=empty) for argument in WRONG[name][0]]
    config = [] if arguments[0].startswith("--config=") or arguments[0] == "--config" else [command.TEST]
    return [*config, *arguments, f"--workdir={directory / 'run'}"]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line_and_leaves_nothing(name, tmp_path):
    command.assert_one_line(command.run_here(*wrong(name, tmp_path)), WRONG[name][1])
    assert not command.contents(tmp_path / "run")
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("name", BEFORE_JAX)
def test_wrong_flags_are_told_without_importing_jax(name, tmp_path):
    process = command.run(*wrong(name, tmp_path), before=command.NO_JAX)
    assert process.stdout == "False\n"
    assert process.returncode == 2
