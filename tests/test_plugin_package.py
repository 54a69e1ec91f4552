"""The sample plug-in: found through its entry points, and it does what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

PLUGIN = Path(__file__).parent / "plugin_package"
sys.path.insert(0, str(PLUGIN))
sys.path.insert(0, str(PLUGIN / "src"))
import visible  # noqa: E402

SHOW = """
import json
from dlas.core import registry
rows = [r for layer in ("optimization", "software") for r in registry.catalogue(layer)]
print(json.dumps([r for r in rows if r["name"] in ("sample-noise-pruning", "faulty")]))
"""


def test_it_is_found_without_pip(tmp_path: Path) -> None:
    path = str(visible.write(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    pruning, faulty = json.loads(done.stdout)
    assert pruning["summary"].startswith("Prune the smallest weights of each layer")
    assert list(pruning["parameters"]) == ["sparsity", "noise", "seed"]
    assert list(faulty["parameters"]) == ["python", "fault", "at", "after", "only_once"]


def test_every_fault_is_in_the_readme() -> None:
    import dlas_sample

    readme = (PLUGIN / "README.md").read_text()
    faults = set(get_args(dlas_sample.Fault)) - {"none"}
    assert [fault for fault in sorted(faults) if f"`{fault}`" not in readme] == []


class TestNoisePruning:
    """Against magnitude pruning by hand."""

    @pytest.fixture
    def network(self) -> Any:
        torch = pytest.importorskip("torch")
        from dlas.core.protocols import DataSpec, Network

        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 10)
        )
        return Network(DataSpec(10, 1, 4, 4), module.eval())

    def prune(self, network: Any, tmp_path: Path, **params: Any) -> Any:
        from dlas_sample import NoisePruning

        return NoisePruning(**params).apply(network, None, tmp_path)

    def test_without_noise_the_smallest_weights_go(self, network: Any, tmp_path: Path) -> None:
        before = network.module[3].weight.detach().clone()
        done = self.prune(network, tmp_path, sparsity=0.25, noise=0.0)
        after = done.network.module[3].weight
        limit = before.abs().flatten().sort().values[80]
        assert ((after == 0) == (before.abs() < limit)).all()
        assert (after[after != 0] == before[before.abs() >= limit]).all()
        assert done.achieved["sparsity"] == pytest.approx((80 + 18) / 392)

    def test_noise_changes_the_choice_and_the_seed_repeats_it(
        self, network: Any, tmp_path: Path
    ) -> None:
        def zeros(**params: Any) -> Any:
            done = self.prune(network, tmp_path, sparsity=0.5, **params)
            return done.network.module[3].weight == 0

        assert (zeros(noise=1.0) == zeros(noise=1.0)).all()
        assert not (zeros(noise=1.0) == zeros(noise=1.0, seed=1)).all()
        assert not (zeros(noise=1.0) == zeros(noise=0.0)).all()

    def test_the_given_network_is_not_changed(self, network: Any, tmp_path: Path) -> None:
        before = network.module[3].weight.detach().clone()
        self.prune(network, tmp_path, sparsity=0.9)
        assert (network.module[3].weight == before).all()
