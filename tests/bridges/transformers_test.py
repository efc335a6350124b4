"""Hugging Face's models as they are, small and random: outputs, symmetries, permutations found again."""

import importlib.util

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
if importlib.util.find_spec("torchax") is None:  # it can't be imported by itself beside every torch
    pytest.skip("needs torchax", allow_module_level=True)

from torch_line import as_jax, check_line  # noqa: E402
from torch_modules import call, settled  # noqa: E402

import llfc_jax  # noqa: E402
from llfc_jax.symmetry import random_permutation  # noqa: E402

IDS = torch.from_numpy(np.random.default_rng(0).integers(0, 40, (3, 6)))
IMAGES = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32))
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]])


def config(kind, **sizes):
    return getattr(transformers, f"{kind}Config")(**sizes)


TEXT = {"vocab_size": 40, "num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24}
VISION = {"num_labels": 5}
MODELS = {
    "GPT2LMHeadModel": (
        lambda: config("GPT2", vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2),
        IDS,
    ),
    "LlamaForCausalLM": (
        lambda: config("Llama", **TEXT, num_attention_heads=4, num_key_value_heads=2),
        {"input_ids": IDS, "use_cache": False},
    ),
    "BertForSequenceClassification": (
        lambda: config("Bert", **TEXT, num_attention_heads=2, max_position_embeddings=16, num_labels=4),
        {"input_ids": IDS, "attention_mask": MASK},
    ),
    "T5ForConditionalGeneration": (
        lambda: config("T5", vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2),
        {"input_ids": IDS, "decoder_input_ids": IDS[:, :4]},
    ),
    "ViTForImageClassification": (
        lambda: config(
            "ViT",
            **VISION,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=32,
            patch_size=8,
        ),
        IMAGES,
    ),
    "ResNetForImageClassification": (
        lambda: config(
            "ResNet",
            **VISION,
            embedding_size=8,
            hidden_sizes=[8, 16],
            depths=[1, 2],
            layer_type="basic",
        ),
        IMAGES,
    ),
    "ConvNextForImageClassification": (
        lambda: config("ConvNext", **VISION, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
        IMAGES,
    ),
    "MobileNetV1ForImageClassification": (
        lambda: config("MobileNetV1", **VISION, image_size=32, depth_multiplier=0.25),
        IMAGES,
    ),
}
FAST = ("GPT2LMHeadModel", "ResNetForImageClassification")
NAMES = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in FAST)]


def repeated(inputs, times):
    def repeat(tensor):
        return torch.cat([tensor] * times) if torch.is_tensor(tensor) else tensor

    return {k: repeat(v) for k, v in inputs.items()} if isinstance(inputs, dict) else repeat(inputs)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_hugging_face_is_read_as_it_is(name):
    make_config, example = MODELS[name]
    module = settled(lambda: getattr(transformers, name)(make_config()))
    network = llfc_jax.from_torch(module, example)
    inputs = repeated(example, 2)
    with torch.no_grad():
        expected = call(module, inputs).logits.numpy()
    inputs = as_jax(inputs)
    found = network.apply(network.variables, inputs)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5

    spec = llfc_jax.permutation_spec(network.apply, network.variables, inputs)
    drawn = random_permutation(jax.random.key(0), spec)
    moved = llfc_jax.apply_permutation(spec, drawn, network.variables)
    assert llfc_jax.check_equivalence(network.apply, network.variables, moved, inputs) < 1e-5
    matched, _ = llfc_jax.weight_matching(jax.random.key(1), spec, network.variables, moved)
    back = llfc_jax.apply_permutation(spec, matched, moved)
    jax.tree.map(np.testing.assert_array_equal, back, network.variables)

    state = network.state_dict(network.variables)
    assert list(state) == list(module.state_dict())
    assert all(torch.equal(state[key], tensor) for key, tensor in module.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_lmc_and_llfc_of_a_model_of_hugging_face_are_those_of_pytorch_in_float64(name):
    make_config, example = MODELS[name]
    module, other = (settled(lambda: getattr(transformers, name)(make_config()), seed) for seed in (0, 1))
    network = llfc_jax.from_torch(module, example)
    check_line(network, module, other, repeated(example, 3), lambda outputs: outputs.logits)
