"""Averages of weights, in closed form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from secondstage.train.averaging import Average, Leaders, Weights, average_best, mean_of


def steps(count: int) -> list[list[Tensor]]:
    """Parameters of two shapes after each step."""
    generator = torch.Generator().manual_seed(5)
    return [[torch.randn(shape, generator=generator) for shape in ((3, 2), (4,))] for _ in range(count)]


def averaged(decay: float, values: list[list[Tensor]]) -> Average:
    average = Average(decay, [torch.full((3, 2), 9.0), torch.full((4,), 9.0)])
    for parameters in values:
        average.update(parameters)
    return average


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_the_average_is_the_weighted_mean_of_all_steps(decay: float, count: int) -> None:
    values = steps(count)
    weights = torch.tensor([decay ** (count - i) for i in range(1, count + 1)], dtype=torch.float64)
    found = averaged(decay, values)
    assert found.updates == count
    for place, tensor in enumerate(found.tensors):
        stacked = torch.stack([parameters[place] for parameters in values]).double()
        expected = torch.einsum("s,s...->...", weights / weights.sum(), stacked)
        assert torch.allclose(tensor.double(), expected, atol=1e-6)


def test_without_a_decay_and_after_one_step_it_is_the_parameters_to_the_bit() -> None:
    values = steps(3)
    for decay, count in ((0.0, 3), (0.9, 1)):
        found = averaged(decay, values[:count]).tensors
        assert all(torch.equal(one, other) for one, other in zip(found, values[count - 1], strict=True))


def test_resumed_it_goes_on_to_the_bit(tmp_path: Path) -> None:
    values = steps(20)
    whole, first = averaged(0.9, values), averaged(0.9, values[:7])
    torch.save(first.state(), tmp_path / "state.pt")
    resumed = averaged(0.9, values[:1])
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for parameters in values[7:]:
        resumed.update(parameters)
    assert resumed.updates == whole.updates
    assert all(torch.equal(one, other) for one, other in zip(resumed.tensors, whole.tensors, strict=True))
    assert not torch.equal(first.tensors[0], resumed.tensors[0])


def test_swapped_twice_it_is_as_before_and_the_parameters_are_the_same_objects() -> None:
    layer = nn.Linear(3, 2)
    average = Average(0.5, layer.parameters())
    before = layer.weight.detach().clone()
    assert torch.equal(average.tensors[0], before)
    average.update(layer.parameters())
    with torch.no_grad():
        layer.weight += 3
    average.update(layer.parameters())
    learnt, pointer = layer.weight.detach().clone(), layer.weight.data_ptr()
    average.swap(layer.parameters())
    assert torch.allclose(layer.weight, before + 2)  # (0.5 x 0 + 1 x 3) / 1.5
    assert torch.equal(average.tensors[0], learnt)
    average.swap(layer.parameters())
    assert torch.equal(layer.weight, learnt)
    assert layer.weight.data_ptr() == pointer
    assert layer.weight.requires_grad
    assert layer.weight.grad_fn is None


def test_the_best_are_kept_and_of_equal_ones_the_later() -> None:
    leaders = Leaders(2)
    found = [leaders.enter(name, value) for name, value in (("a", 0.3), ("b", 0.5), ("c", 0.1), ("d", 0.3), ("e", 0.5))]
    assert found == [[], [], ["c"], ["a"], ["d"]]
    assert leaders.entries == [("e", 0.5), ("b", 0.5)]
    again = Leaders(2, [["e", 0.5], ["b", 0.5]])
    assert again.enter("f", 0.6) == ["b"]
    assert again.entries == [("f", 0.6), ("e", 0.5)]


def test_a_checkpoint_may_be_the_best_whatever_its_value() -> None:
    leaders = Leaders(2, [("a", 0.5), ("b", 0.4)])
    assert leaders.enter("c", 0.1, first=True) == ["b"]
    assert leaders.entries == [("c", 0.1), ("a", 0.5)]


def files(folder: Path, *weights: Weights) -> list[Path]:
    paths = [folder / f"{i}.safetensors" for i in range(len(weights))]
    for path, tensors in zip(paths, weights, strict=True):
        save_file(tensors, path)
    return paths


def test_the_mean_of_files(tmp_path: Path) -> None:
    parts = [
        {"a": torch.tensor([float(i), 1.0]), "b": torch.full((2, 2), 2.0**i), "n": torch.tensor([i])} for i in range(3)
    ]
    found = mean_of(files(tmp_path, *parts))
    assert found["a"].tolist() == [1, 1]
    assert torch.equal(found["b"], torch.full((2, 2), 7 / 3))
    assert found["n"].tolist() == [0]  # a counter has no mean
    assert found["a"].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_of_equal_weights_is_these_very_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {"a": torch.randn(100, generator=torch.Generator().manual_seed(1)).to(dtype)}
    found = mean_of(files(tmp_path, weights, weights, weights))
    assert torch.equal(found["a"], weights["a"])
    assert found["a"].dtype == dtype


def test_files_of_different_models_have_no_mean(tmp_path: Path) -> None:
    one, two = torch.zeros(1), torch.zeros(2)
    with pytest.raises(ValueError, match="other tensors"):
        mean_of(files(tmp_path, {"a": one}, {"a": one, "b": two}))
    with pytest.raises(ValueError, match=r"a has the shapes \(1,\) and \(2,\)"):
        mean_of(files(tmp_path, {"a": one}, {"a": two}))


def test_an_average_is_kept_only_where_it_is_better(tmp_path: Path) -> None:
    paths = files(tmp_path, {"a": torch.tensor([0.0])}, {"a": torch.tensor([1.0])})

    def measure(weights: Weights) -> dict[str, float]:
        return {"q1": weights["a"].item(), "q2": 0.0}  # mean 0.25

    assert average_best(paths, 0.25, measure) is None
    assert average_best(paths[:1], 0.0, measure) is None
    found = average_best(paths, 0.24, measure)
    assert found is not None
    assert found[0]["a"].tolist() == [0.5]
    assert found[1] == {"q1": 0.5, "q2": 0.0}
    assert load_file(paths[0])["a"].tolist() == [0]
