"""Checkpoints: the weights in them are found, loaded where they fit, and told apart by their digest."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.networks.state_dicts import digest, load_weights, read_state_dict, split_key
from bench.system.errors import BenchError

from .checkpoint_tensors import make_network
from .checkpoint_tensors import tensors as tensors


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "best": 0.9},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model_state_dict": state},
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_a_state_dict_is_found_wherever_trainers_put_it(
    suffix: str, wrap: Callable[[Any], Any], prefix: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(wrap({prefix + name: value for name, value in tensors.items()}), path)
    assert_same(read_state_dict(path), tensors)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_safetensors_file_is_read(prefix: str, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({prefix + name: value for name, value in tensors.items()}, tmp_path / "weights.safetensors")
    assert_same(read_state_dict(tmp_path / "weights.safetensors"), tensors)


def test_a_prefix_that_only_some_names_have_stays(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "weights.pth")
    assert read_state_dict(tmp_path / "weights.pth").keys() == {"module.a", "b"}


PREFIXES = ["_orig_mod.", "model.", "net.", "module._orig_mod.", "a.strangers.wrapper."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_any_common_prefix_is_found_with_foreign_names_beside(
    suffix: str, prefix: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    state = {prefix + name: value for name, value in tensors.items()} | {"n_averaged": torch.tensor(3)}
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    found = read_state_dict(path, make_network().state_dict().keys())
    assert_same({name: found[name] for name in tensors}, tensors)
    assert found.keys() - tensors.keys() == {"n_averaged"}


@pytest.mark.parametrize("wrapper", ["net", "generator.weights", "whatever"])
def test_a_wrapper_of_any_name_is_found(wrapper: str, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    content: Any = tensors
    for key in reversed(wrapper.split(".")):
        content = {key: content, "epoch": 3}
    torch.save(content | {"lr": torch.tensor(0.1)}, tmp_path / "weights.pth")
    assert_same(read_state_dict(tmp_path / "weights.pth", tensors.keys()), tensors)


def test_of_weights_and_their_average_one_is_taken_and_said_and_the_other_can_be_chosen(
    tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    average = {name: value + 1 for name, value in tensors.items()}
    path = tmp_path / "weights.pth"
    torch.save({"model_ema": {"module." + name: value for name, value in average.items()}, "model": tensors}, path)
    with pytest.warns(
        UserWarning, match=r"'model' is used; the file also holds 'model_ema', which weights.pth#model_ema"
    ):
        assert_same(read_state_dict(path, tensors.keys()), tensors)
    assert_same(read_state_dict(path, tensors.keys(), "model_ema"), average)
    with pytest.raises(
        BenchError, match=r"weights.pth#ema'?: the file has no state dict there; it has: 'model_ema', 'model'"
    ):
        read_state_dict(path, tensors.keys(), "ema")
    assert split_key(f"{path}#model_ema") == (path, "model_ema") and split_key(str(path)) == (path, None)


def test_weights_are_copied(tensors: dict[str, Tensor]) -> None:
    network = make_network()
    load_weights(network, tensors, "weights.pth")
    assert_same(network.state_dict(), tensors)


def test_batch_counters_may_be_missing(tensors: dict[str, Tensor]) -> None:
    network = make_network()
    load_weights(network, {name: value for name, value in tensors.items() if "num_batches" not in name}, "f")
    assert_same(network.state_dict(), tensors)


def test_other_precisions_become_the_networks(tensors: dict[str, Tensor]) -> None:
    network = make_network()
    load_weights(network, {name: v.half() if v.is_floating_point() else v for name, v in tensors.items()}, "f")
    assert network[0].weight.dtype == torch.float32
    assert torch.equal(network[0].weight, tensors["0.weight"].half().float())


def test_what_does_not_fit_is_named_and_nothing_is_loaded(tensors: dict[str, Tensor]) -> None:
    network = make_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tensors["3.weight"] = torch.zeros(10, 4)
    del tensors["3.bias"], tensors["0.bias"]
    with pytest.raises(BenchError) as caught:
        load_weights(network, tensors, "my.pth")
    assert str(caught.value) == (
        "weights=my.pth: does not fit the network: missing 0.bias, 3.bias; 3.weight is (10, 4), the network has (2, 4)"
    )
    assert_same(network.state_dict(), before)


def test_whole_numbers_are_no_weights(tensors: dict[str, Tensor]) -> None:
    network = make_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tensors["0.weight"] = torch.ones(4, 3, 3, 3, dtype=torch.int8)
    with pytest.raises(BenchError, match=r"my.pth: whole numbers where .* floats.*: 0.weight \(torch.int8\)$"):
        load_weights(network, tensors, "my.pth")
    assert_same(network.state_dict(), before)


def test_of_many_names_the_first_are_told(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(BenchError, match=r"missing 0\.weight, 0\.bias, 1\.weight and 5 more$"):
        load_weights(make_network(), {}, "my.pth")


def test_names_too_many_are_ignored_with_a_warning(tensors: dict[str, Tensor]) -> None:
    network = make_network()
    with pytest.warns(UserWarning, match=r"my\.pth: ignored, as the network has no such tensor: fc\.weight, fc\.bias$"):
        load_weights(network, {**tensors, "fc.weight": torch.ones(1), "fc.bias": torch.ones(1)}, "my.pth")
    assert_same(network.state_dict(), tensors)


def test_a_digest_is_of_names_shapes_and_values(tensors: dict[str, Tensor]) -> None:
    backwards = dict(reversed(tensors.items()))
    assert digest(tensors) == digest(backwards) and len(digest(tensors)) == 16
    name, value = "0.weight", tensors["0.weight"]
    changed = value.clone()
    changed.view(-1)[-1] = torch.nextafter(changed.view(-1)[-1], torch.tensor(9.0))
    others = [
        {**tensors, name: changed},
        {**tensors, name: value.flatten()},
        {**tensors, name: value.double()},
        {**{key: item for key, item in tensors.items() if key != name}, "0.weights": value},
    ]
    assert len({digest(tensors), *map(digest, others)}) == 5


def test_a_digest_survives_the_file(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"module." + name: value for name, value in tensors.items()}, buffer)
    (tmp_path / "weights.pth").write_bytes(buffer.getvalue())
    assert digest(read_state_dict(tmp_path / "weights.pth")) == digest(tensors)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
