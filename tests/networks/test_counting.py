"""Multiply-accumulates against numbers worked out by hand; what is not counted is named."""

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import library as operators  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

from dlas.core.protocols import DataSpec, Network  # noqa: E402
from dlas.networks.counting import count  # noqa: E402
from dlas.run.steps.inspect import inspect_network  # noqa: E402

SPEC = DataSpec(classes=10, channels=1, height=8, width=8)
CONV = 8 * 8 * 9 * 16


class Rnn(nn.Module):
    """A convolution, then a recurrent layer over the eight columns."""

    def __init__(self, rnn):
        super().__init__()
        self.a, self.rnn = nn.Conv2d(1, 16, 3, padding=1), rnn

    def forward(self, x):
        columns = self.a(x).amax(2).transpose(1, 2)
        return self.rnn(columns)[0][:, -1]


def gates(inputs, hidden, number, directions=1):
    return 8 * number * hidden * (inputs + hidden) * directions


RECURRENT = {
    "lstm": (nn.LSTM(16, 12, batch_first=True), gates(16, 12, 4)),
    "lstm both ways": (
        nn.LSTM(16, 12, batch_first=True, bidirectional=True),
        gates(16, 12, 4, 2),
    ),
    "lstm of two layers": (
        nn.LSTM(16, 12, 2, batch_first=True, bias=False),
        gates(16, 12, 4) + gates(12, 12, 4),
    ),
    "lstm with projection": (
        nn.LSTM(16, 12, batch_first=True, proj_size=5),
        8 * (4 * 12 * (16 + 5) + 12 * 5),
    ),
    "gru": (nn.GRU(16, 12, batch_first=True, bidirectional=True), gates(16, 12, 3, 2)),
    "rnn": (nn.RNN(16, 12, 2, batch_first=True), gates(16, 12, 1) + gates(12, 12, 1)),
}


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("batch", [1, 3])
def test_recurrent_layers_are_counted_by_step(name, batch):
    layer, expected = RECURRENT[name]
    spec = DataSpec(10, 1, 8, 8, batch)
    counted = count(Rnn(layer).eval(), spec)
    assert counted.uncounted == ()
    assert counted.macs == batch * (CONV + expected)


def test_an_lstm_cell_in_a_loop_is_counted_each_time():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTMCell(8, 6)

        def forward(self, x):
            state = (x.new_zeros(1, 6), x.new_zeros(1, 6))
            for row in x[:, 0].unbind(1):
                state = self.cell(row, state)
            return state[0]

    assert count(Loop().eval(), SPEC).macs == 8 * 4 * 6 * (8 + 6)


class Vectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))

    def forward(self, x):
        y = x[0, 0] @ self.w
        return y.dot(self.v) + torch.addmv(y, x[0, 0], self.v) + torch.vdot(y, y)


def test_products_with_vectors_are_counted():
    counted = count(Vectors().eval(), SPEC)
    assert counted.macs == 64 + 8 + 64 + 8
    seen = {(layer.name, layer.operator, layer.macs) for layer in counted.layers}
    assert seen == {("w", "mv", 64), ("v", "dot", 8), ("v", "addmv", 64), ("", "vdot", 8)}


class Inverse(nn.Module):
    def forward(self, x):
        return torch.linalg.inv(x[:, 0] + torch.eye(8))


class Distance(nn.Module):
    def forward(self, x):
        return torch.cdist(x[0], x[0], p=1.0)


class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList([Once(), Once()])

    def forward(self, x):
        return self.inner[1](self.inner[0](x))


class Once(nn.Module):
    def forward(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x) * 2)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (Fourier(), {"fft_r2c in inner.0 and 1 more", "fft_c2r in inner.0 and 1 more"}),
        (Inverse(), {"linalg_inv_ex in its own forward"}),
        (Distance(), {"cdist_forward in its own forward"}),
    ],
)
def test_what_is_not_counted_is_named_and_leaves_the_sum_empty(module, names):
    facts = inspect_network(Network(SPEC, nn.Sequential(nn.Conv2d(1, 1, 1), module).eval()))
    prefix = {
        name.replace("in inner", "in 1.inner").replace("its own forward", "1") for name in names
    }
    assert set(facts.uncounted) == prefix
    assert (facts.macs, facts.effective_macs) == (None, None)
    assert facts.layers[0].macs == 64


def test_a_custom_operator_is_named():
    library = operators.Library("dlas_test_counting", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")

    class Custom(nn.Module):
        def forward(self, x):
            return torch.ops.dlas_test_counting.twice(x)

    assert count(Custom(), SPEC).uncounted == ("twice in its own forward",)


def test_counting_never_stops_a_network():
    class Stops(nn.Module):
        def forward(self, x):
            if not x.any():
                raise ValueError("an image is not black")
            return x

    facts = inspect_network(Network(SPEC, nn.Sequential(nn.Conv2d(1, 1, 1), Stops()).eval()))
    assert facts.macs == 64 * 1 or facts.macs is None
    empty = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), Stops()).eval()
    nn.init.zeros_(empty[0].weight)
    facts = inspect_network(Network(SPEC, empty))
    assert facts.macs is None
    assert "an image is not black" in facts.uncounted[0]


class OwnMask(nn.Module):
    """A mask that is multiplied in forward, and a weight that is standardized there."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3, bias=False), nn.Linear(8, 10, bias=False)
        self.register_buffer("mask", (torch.arange(72) % 4 == 0).float().reshape(8, 1, 3, 3))

    def forward(self, x):
        x = F.conv2d(x, self.conv.weight * self.mask)
        return F.linear(x.mean((2, 3)), self.fc.weight - self.fc.weight.mean())


def test_the_weight_that_is_used_decides_what_is_zero():
    facts = inspect_network(Network(SPEC, OwnMask().eval()))
    assert (facts.params, facts.nonzero_params) == (72 + 80, 18 + 80)
    assert (facts.macs, facts.effective_macs) == (36 * 72 + 80, 36 * 18 + 80)
    assert facts.layers[0].name == "conv"


def test_masks_of_torchs_own_pruning_count_too():
    module = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False)).eval()
    prune.l1_unstructured(module[0], "weight", 0.75)
    facts = inspect_network(Network(SPEC, module))
    assert facts.effective_macs == 36 * 18


class GivesItsToken(nn.Module):
    """As pit: a module is given a parameter, beside the image."""

    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 1, bias=False), nn.Linear(4, 4, bias=False)

        def forward(self, both):
            image, token = both
            return self.conv(image).mean((2, 3)) + self.fc(token)

    def __init__(self):
        super().__init__()
        self.token, self.joined = nn.Parameter(torch.ones(1, 4)), self.Joined()

    def forward(self, x):
        return self.joined((x, self.token))


def test_a_parameter_that_is_given_to_a_module_stops_no_count():
    module = GivesItsToken().eval()
    facts = inspect_network(Network(SPEC, module))
    assert (facts.macs, facts.uncounted) == (64 * 4 + 16, ())
    assert all(each.requires_grad for each in module.parameters())
