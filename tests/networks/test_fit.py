"""The training loop: it learns, repeats itself, keeps what it is told to keep."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dlas.core.errors import StepError
from dlas.networks.fit import augmented, balanced, predict, train

if TYPE_CHECKING:
    from dlas.core.protocols import Array, Labels

torch = pytest.importorskip("torch")
nn = torch.nn


@dataclass
class Stripes:
    """Two classes of 1 x 6 x 6 noise: a bright left or a bright right half."""

    count: int = 96
    asked: list[int] = field(default_factory=list)

    @property
    def labels(self) -> Labels:
        return np.arange(self.count, dtype=np.int64) % 2

    @property
    def ids(self) -> Sequence[str]:
        return [str(i) for i in range(self.count)]

    @property
    def content(self) -> str:
        return "stripes"

    def images(self, indices: Sequence[int]) -> Array:
        self.asked += [int(i) for i in indices]
        noise = np.random.default_rng(0).standard_normal((self.count, 1, 6, 6))
        images = noise[np.asarray(indices, dtype=np.int64)].astype(np.float32)
        for image, index in zip(images, indices, strict=True):
            image[:, :, (index % 2) * 3 : (index % 2) * 3 + 3] += 1.5
        return images


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(),
            nn.Linear(64, 2),
        )  # fmt: skip


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[k], two[k]) for k in one)


class TestTrain:
    def test_it_learns(self) -> None:
        module, data = network(), Stripes()
        before = (predict(module, data.images(range(96))).argmax(1) == data.labels).mean()
        facts = train(module, data, epochs=10, batch_size=16, lr=1e-2, threads=1)
        after = (predict(module, data.images(range(96))).argmax(1) == data.labels).mean()
        assert before < 0.8
        assert after > 0.95
        assert facts["train_accuracy"] > 0.9
        assert facts["loss"] < 0.3
        assert (facts["steps"], facts["images"], facts["lr"]) == (60, 96, 1e-2)
        assert not module.training

    def test_one_step_is_adamw_on_cross_entropy(self) -> None:
        module, data = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), Stripes(16)
        twin = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
        twin.load_state_dict(module.state_dict())
        train(module, data, epochs=1, batch_size=16, lr=0.01, weight_decay=0.1, threads=1)
        x, y = torch.from_numpy(data.images(range(16))), torch.from_numpy(data.labels)
        loss = nn.functional.cross_entropy(twin(x), y)
        loss.backward()
        weight, bias = twin[1].weight, twin[1].bias
        norm = torch.sqrt(weight.grad.square().sum() + bias.grad.square().sum())
        scale = min(1.0, 1.0 / float(norm))
        for parameter, decay in ((weight, 0.1), (bias, 0.0)):
            grad = parameter.grad * scale  # Adam's first step is lr * g / (|g| + eps)
            expected = parameter * (1 - 0.01 * decay) - 0.01 * grad / (grad.abs() + 1e-8)
            got = module[1].weight if parameter is weight else module[1].bias
            torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)

    def test_the_seed_decides_and_the_global_state_stays(self) -> None:
        runs = []
        for seed in (3, 3, 4):
            module = network()
            torch.manual_seed(len(runs))  # what went before must not matter
            state, threads = torch.random.get_rng_state(), torch.get_num_threads()
            train(module, Stripes(), epochs=2, batch_size=16, seed=seed, threads=1, augment="flip")
            assert torch.equal(torch.random.get_rng_state(), state)
            assert torch.get_num_threads() == threads
            runs.append(weights(module))
        assert equal(runs[0], runs[1])
        assert not equal(runs[0], runs[2])

    def test_zero_epochs_change_nothing(self) -> None:
        module = network().train()
        before = weights(module)
        facts = train(module, Stripes(), epochs=0)
        assert equal(before, weights(module))
        assert facts["steps"] == 0
        assert facts["loss"] is None
        assert not module.training

    def test_after_step_can_keep_zeros_and_frozen_parameters_stay(self) -> None:
        module = network()
        module[0].bias.requires_grad_(False)
        bias = module[0].bias.clone()
        mask = torch.arange(64) % 2 == 0
        calls = []

        def put_zeros_back(trained: nn.Module) -> None:
            calls.append(trained)
            trained[5].weight.data[:, mask] = 0

        train(module, Stripes(), epochs=2, batch_size=32, after_step=put_zeros_back)
        assert calls == [module] * 6
        assert (module[5].weight[:, mask] == 0).all()
        assert (module[5].weight[:, ~mask] != 0).any()
        assert torch.equal(module[0].bias, bias)

    def test_limit_trains_on_so_many_images_of_all_classes(self) -> None:
        data = Stripes()
        facts = train(network(), data, epochs=3, batch_size=10, limit=20)
        assert facts["images"] == 20
        assert len(set(data.asked)) == 20
        assert np.bincount(data.labels[sorted(set(data.asked))]).tolist() == [10, 10]

    def test_progress_counts_every_step(self) -> None:
        seen: list[tuple[int, int]] = []
        train(
            network(), Stripes(), epochs=2, batch_size=48,
            progress=lambda step, steps, loss: seen.append((step, steps)),
        )  # fmt: skip
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def test_the_clock_ends_it_and_says_how_far_it_came(self) -> None:
        data, seen = Stripes(), []
        facts = train(
            network(), data, epochs=0, batch_size=32, minutes=0.5 / 60,
            progress=lambda step, steps, loss: seen.append((step, steps)),
        )  # fmt: skip
        assert facts["steps"] == len(seen) > 1
        assert facts["epochs"] == pytest.approx(len(seen) / 3, abs=0.01)
        assert facts["minutes"] == 0.5 / 60
        assert facts["train_accuracy"] > 0.5
        assert all(step <= steps for step, steps in seen)

    def test_images_grow_while_it_trains(self) -> None:
        class Sizes(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc, self.seen = nn.Linear(1, 2), []

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.seen.append(tuple(x.shape))
                return self.fc(x.mean(dim=(2, 3)))

        module = Sizes()
        facts = train(module, Stripes(), epochs=5, batch_size=96, first_size=4)
        assert [shape[2:] for shape in module.seen] == [(4, 4)] * 4 + [(6, 6)]
        assert facts["first_size"] == 4

    def test_channels_last_gives_the_same_and_contiguous_weights(self) -> None:
        # no dropout: its random numbers are drawn in the order of memory; no bias before the
        # norm: its gradient is nothing but rounding
        plain = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2)
        )
        torch.nn.init.normal_(plain[0].weight, generator=torch.Generator().manual_seed(0))
        other = copy.deepcopy(plain)
        train(plain, Stripes(), epochs=1, batch_size=32, threads=1)
        train(other, Stripes(), epochs=1, batch_size=32, threads=1, channels_last=True)
        assert all(p.is_contiguous() for p in other.parameters())
        images = Stripes().images(range(96))
        np.testing.assert_allclose(predict(plain, images), predict(other, images), atol=1e-3)

    def test_a_loss_that_is_not_finite_ends_it(self) -> None:
        module = network()
        module[5].weight.data.fill_(math.inf)
        with pytest.raises(StepError, match=r"training diverged.*Lower lr"):
            train(module, Stripes(), epochs=1)


class TestPredict:
    def test_equals_the_module_in_eval_mode_and_restores_the_mode(self) -> None:
        module, images = network().train(), Stripes().images(range(7))
        before = weights(module)
        out = predict(module, images, batch=3)
        assert module.training
        assert equal(before, weights(module))  # running statistics too
        assert (out.dtype, out.shape) == (np.float32, (7, 2))
        with torch.inference_mode():
            expected = module.eval()(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(out, expected, atol=1e-6)


class TestBalanced:
    def test_takes_evenly_from_all_classes(self) -> None:
        labels = np.array([0] * 50 + [1] * 30 + [2] * 5, dtype=np.int64)
        assert np.bincount(labels[balanced(labels, 12)]).tolist() == [4, 4, 4]
        assert np.bincount(labels[balanced(labels, 35)]).tolist() == [15, 15, 5]
        assert sorted(balanced(labels, 35)) == list(balanced(labels, 35))

    def test_a_smaller_choice_is_part_of_a_larger(self) -> None:
        labels = np.arange(100, dtype=np.int64) % 7
        chosen = [set(balanced(labels, n, seed=2).tolist()) for n in (5, 20, 60, 100)]
        assert [len(c) for c in chosen] == [5, 20, 60, 100]
        assert all(a < b for a, b in itertools.pairwise(chosen))
        assert chosen[1] != set(balanced(labels, 20, seed=3).tolist())

    def test_all_where_there_is_no_limit(self) -> None:
        labels = np.zeros(4, dtype=np.int64)
        assert balanced(labels, None).tolist() == balanced(labels, 9).tolist() == [0, 1, 2, 3]


class TestAugmented:
    images = np.arange(40 * 36, dtype=np.float32).reshape(40, 1, 6, 6)

    def test_none_is_the_images(self) -> None:
        assert augmented(self.images, "none", np.random.default_rng(0)) is self.images

    def test_flip_mirrors_about_half(self) -> None:
        out = augmented(self.images, "flip", np.random.default_rng(0))
        same = (out == self.images).all(axis=(1, 2, 3))
        mirrored = (out == self.images[..., ::-1]).all(axis=(1, 2, 3))
        assert (same ^ mirrored).all()
        assert 10 < mirrored.sum() < 30

    def test_shift_moves_by_at_most_two_and_repeats_the_edge(self) -> None:
        out = augmented(self.images, "shift", np.random.default_rng(0))
        seen = set()
        for before, after in zip(self.images[:, 0], out[:, 0], strict=True):
            padded = np.pad(before, 2, mode="edge")
            places = [
                (r, c) for r in range(5) for c in range(5)
                if (padded[r : r + 6, c : c + 6] == after).all()
            ]  # fmt: skip
            assert places
            seen.update(places)
        assert len(seen) > 10
