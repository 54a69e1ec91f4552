"""Models and optimizations that each break a promise."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from broken_promise import broken
from dlas.core.protocols import Network, Optimized
from dlas.testing import SmallNet
from sound_techniques import Zeroing

_COUNT = itertools.count(1)

# ---------------------------------------------------------------- models


@broken("it-builds-a-network-for-the-problem")
class OtherProblem(SmallNet):
    """A network for other images."""

    def build(self, dataset: Any) -> Network:
        network = super().build(dataset)
        return replace(network, spec=replace(network.spec, height=8))


MODULE = "its-module-is-float32-in-eval-mode-on-the-cpu"


@broken(MODULE, "images-of-a-batch-do-not-mix")
class Training(SmallNet):
    """Batch norms look at the batch."""

    def build(self, dataset: Any) -> Network:
        network = super().build(dataset)
        network.module.train()
        return network


@broken(MODULE)
class Half(SmallNet):
    """Half the bytes, and no float32 module."""

    def build(self, dataset: Any) -> Network:
        network = super().build(dataset)
        network.module.half()
        return network


LOGITS = "outputs-are-one-row-of-logits-per-image"


@broken(LOGITS)
class OneClassMore(SmallNet):
    """A logit too many."""

    def build(self, dataset: Any) -> Network:
        more = replace(dataset, classes=dataset.classes + 1)
        return replace(super().build(more), spec=dataset.spec())


@broken(LOGITS)
class Blind(SmallNet):
    """The same outputs for every image."""

    def build(self, dataset: Any) -> Network:
        network = super().build(dataset)
        network.module[0][0].weight.data.zero_()
        return network


@broken(LOGITS)
class NanNet(SmallNet):
    """One weight is not a number."""

    def build(self, dataset: Any) -> Network:
        network = super().build(dataset)
        network.module[-1][-1].weight.data[0, 0] = float("nan")
        return network


@broken("inference-is-deterministic", "saved-and-loaded-it-gives-the-same-outputs")
class Noisy(SmallNet):
    """Dropout that is never switched off."""

    def build(self, dataset: Any) -> Network:
        import torch

        network = super().build(dataset)
        network.module.register_forward_hook(lambda m, i, y: y + torch.randn_like(y))
        return network


@broken("building-twice-gives-the-same")
class GlobalRandom(SmallNet):
    """Weights from torch's global random state."""

    def build(self, dataset: Any) -> Network:
        import torch

        network = super().build(dataset)
        network.module[-1][-1].weight.data += torch.randn(())
        return network


@broken("saved-and-loaded-it-gives-the-same-outputs")
class HiddenState(SmallNet):
    """What it computes hangs on something that is neither tensor nor attribute."""

    def build(self, dataset: Any) -> Network:
        network, factor = super().build(dataset), next(_COUNT)
        network.module.register_forward_hook(lambda m, i, y: y * factor)
        return network


@broken("its-weights-are-a-file-or-none")
class TextWeights(SmallNet):
    """The name of a file that is not there."""

    def weights(self, dataset: Any) -> Any:
        return "weights.safetensors"


# ---------------------------------------------------------------- optimizations


@broken("it-returns-an-optimized-network")
class BareNetwork(Zeroing):
    """Returns the network alone."""

    def apply(self, network: Network, data: Any, folder: Path) -> Any:
        return super().apply(network, data, folder).network


@broken("the-given-network-is-not-changed")
class InPlace(Zeroing):
    """Changes what it was given."""

    def apply(self, network: Network, data: Any, folder: Path) -> Optimized:
        return Optimized(network, {"sparsity": self.zero(network.module)})


FINITE = "outputs-keep-their-shape-and-are-finite"


@broken(FINITE)
class Nan(Zeroing):
    """Divides by nothing."""

    def zero(self, module: Any) -> float:
        share = super().zero(module)
        module[-1][-1].bias.data[0] = float("nan")
        return share


@broken(FINITE)
class LosesAClass(Zeroing):
    """Prunes an output."""

    def zero(self, module: Any) -> float:
        share = super().zero(module)
        last = module[-1][-1]
        last.weight.data, last.bias.data = last.weight.data[1:], last.bias.data[1:]
        return share


PRECISION = "the-network-is-what-its-precision-means"


@broken(PRECISION)
class OnlySaysHalf(Zeroing):
    """Declares float16 and asks nobody for it."""

    precision: ClassVar[Any] = "float16"


@broken(PRECISION)
class NotRounded(Zeroing):
    """Asks for float16 and leaves the weights in float32."""

    precision: ClassVar[Any] = "float16"

    def apply(self, network: Network, data: Any, folder: Path) -> Optimized:
        done = super().apply(network, data, folder)
        return replace(done, network=replace(done.network, precision="float16"))


@broken("saved-and-loaded-it-gives-the-same-outputs")
class OtherModules(Zeroing):
    """Puts a module of another kind in the place of one."""

    def zero(self, module: Any) -> float:
        from torch import nn

        module[0][2] = nn.Tanh()
        return super().zero(module)


@broken("as-onnx-it-gives-the-same-outputs")
class LostInExport(Zeroing):
    """What it adds is not there once the network is exported."""

    def zero(self, module: Any) -> float:
        import torch

        module.register_forward_hook(lambda m, i, y: y if torch.compiler.is_exporting() else y * 2)
        return super().zero(module)


@broken("same-parameters-give-the-same-result")
class Chance(Zeroing):
    """Prunes by torch's global random state."""

    def zero(self, module: Any) -> float:
        import torch

        for weight in (p.data for p in module.parameters() if p.dim() > 1):
            weight[torch.rand(weight.shape) < 0.1] = 0
        return super().zero(module)


@broken("what-is-achieved-is-json")
class NumpyNumber(Zeroing):
    """A number of numpy's."""

    def zero(self, module: Any) -> Any:
        return np.float32(super().zero(module))


@broken("what-is-achieved-is-json")
class AchievedNan(Zeroing):
    """NaN is no JSON."""

    def apply(self, network: Network, data: Any, folder: Path) -> Optimized:
        done = super().apply(network, data, folder)
        return replace(done, achieved={**done.achieved, "gain": float("nan")})


SPARSITY = "the-sparsity-reported-is-that-of-the-tensors"


@broken(SPARSITY)
class Lies(Zeroing):
    """Says nine tenths, whatever it did."""

    def zero(self, module: Any) -> float:
        super().zero(module)
        return 0.9


@broken(SPARSITY)
class Silent(Zeroing):
    """Sparse, and does not say how much."""

    def apply(self, network: Network, data: Any, folder: Path) -> Optimized:
        return Optimized(super().apply(network, data, folder).network)


@broken("zeros-are-declared")
class Undeclared(Zeroing):
    """Leaves zeros and says that it does not."""

    sparse: ClassVar[bool] = False


@broken("what-changes-nothing-changes-nothing")
class SaysNothing(Zeroing):
    """Declares that it changes nothing, so that its step would be left out."""

    changes_nothing: ClassVar[bool] = True


@broken("an-onnx-model-is-taken-or-refused")
class NoRule(Zeroing):
    """Fails on an ONNX model and has no rule that says so."""

    def why_not(self, stack: Any) -> Any:
        return None
