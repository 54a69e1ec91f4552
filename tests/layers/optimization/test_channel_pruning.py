"""Channel pruning of people's own networks: what is pruned is the original without channels.

Beside the proof within the technique, each case is checked here by numbers: the kept channels are
read off the pruned network's biases, the others are zeroed in the original, and the outputs have
to agree.
"""

import copy

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402

from dlas.core import registry  # noqa: E402
from dlas.core.errors import StepError  # noqa: E402
from dlas.core.protocols import DataSpec, Network  # noqa: E402
from dlas.layers.optimization import channel_pruning  # noqa: E402
from dlas.layers.optimization.shared import grouping  # noqa: E402
from dlas.layers.optimization.shared.channels import Shrinking  # noqa: E402
from dlas.layers.optimization.shared.grouping import indexed_groups  # noqa: E402
from dlas.layers.optimization.shared.proof import prove, tensors_of, trace  # noqa: E402
from dlas.layers.optimization.shared.proposals import is_layer, quiet  # noqa: E402
from dlas.layers.optimization.shared.slices import Slice, Unfollowed  # noqa: E402

SPEC = DataSpec(classes=10, channels=1, height=8, width=8)
LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)


class Own(nn.Module):
    """Layers by name, and a forward as a function of them."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


def conv(before, after, size=3, **more):
    return nn.Conv2d(before, after, size, padding=size // 2, **more)


def head(self, x):
    return self.fc(x.mean((2, 3)))


def shuffled(x, groups):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def net(run, **layers):
    torch.manual_seed(0)
    return Own(run, **layers).eval()


def two(between, width=16, reads=16, **more):
    """Two convolutions, and what stands between them."""
    return net(
        lambda s, x: head(s, F.relu(s.b(between(s, F.relu(s.a(x)))))),
        a=conv(1, width), b=conv(reads, 24), fc=nn.Linear(24, 10), **more,
    )  # fmt: skip


def split_attention(s, x):
    x = F.relu(s.a(x))
    u, w = s.b(x), s.c(x)
    z = s.g((u + w).mean((2, 3))).view(len(x), 2, -1).softmax(1)
    return head(s, (u * z[:, 0, :, None, None] + w * z[:, 1, :, None, None]).relu())


def recurrent(layer):
    def run(s, x):
        x = F.relu(s.b(F.relu(s.a(x))))
        return s.fc(s.rnn(x.permute(0, 3, 1, 2).flatten(2))[0][:, -1])

    return net(run, a=conv(1, 16), b=conv(16, 8), rnn=layer(64, 12), fc=nn.Linear(12, 10))


def tied(s, x):
    x = F.relu(s.a(x)).mean((2, 3))
    return s.fc(F.relu(s.g(F.relu(s.f(x)))))


def tied_net():
    made = net(tied, a=conv(1, 16), f=nn.Linear(16, 16, bias=False),
               g=nn.Linear(16, 16, bias=False), fc=nn.Linear(16, 10))  # fmt: skip
    made.g.weight = made.f.weight
    return made


def residual(s, x):
    x = F.relu(s.bn(s.a(x)))
    return head(s, F.relu(s.c(F.relu(s.b(x))) + x))


def glu(s, x):
    return x[:, : x.shape[1] // 2] * torch.sigmoid(x[:, x.shape[1] // 2 :])


def masks(module):
    for layer in (module.a, module.b):
        prune.l1_unstructured(layer, "weight", 0.3)
    return module


def normed(module):
    for layer in (module.a, module.b):
        parametrizations.weight_norm(layer)
    return module


def plain(s, x):
    return x


CASES = {
    "residual": (net, (residual,), {"a": conv(1, 16), "bn": nn.BatchNorm2d(16), "b": conv(16, 16),
                                    "c": conv(16, 16), "fc": nn.Linear(16, 10)}),
    "shuffle by view": (two, (lambda s, x: shuffled(x, 2),), {}),
    "shuffle by module": (two, (lambda s, x: s.s(x),), {"s": nn.ChannelShuffle(4)}),
    "a permutation by index": (two, (lambda s, x: x[:, [*range(8, 16), *range(8)]],), {}),
    "rolled channels": (two, (lambda s, x: x.roll(3, 1),), {}),
    "halves": (two, (glu,), {"width": 32}),
    "glu": (two, (lambda s, x: F.glu(x, 1),), {"width": 32}),
    "maxout": (two, (lambda s, x: x.view(len(x), 16, 2, 8, 8).amax(2),), {"width": 32}),
    "softmax over channels": (two, (lambda s, x: x.softmax(1),), {}),
    "mean over channels": (two, (lambda s, x: x * x.mean(1, keepdim=True),), {}),
    "unit length": (two, (lambda s, x: F.normalize(x, dim=1),), {}),
    "divided by width": (two, (lambda s, x: x / x.shape[1],), {}),
    "grouped": (two, (lambda s, x: F.relu(s.c(x)),), {"c": conv(16, 16, groups=4)}),
    "depthwise": (two, (lambda s, x: F.relu(s.c(x)),), {"c": conv(16, 16, groups=16)}),
    "depthwise times two": (two, (lambda s, x: F.relu(s.c(x)),),
                            {"c": conv(16, 32, groups=16), "reads": 32}),
    "transposed": (two, (lambda s, x: F.relu(s.c(x)),), {"c": nn.ConvTranspose2d(16, 16, 2, 2)}),
    "transposed in groups": (two, (lambda s, x: F.relu(s.c(x)),),
                             {"c": nn.ConvTranspose2d(16, 12, 2, 2, groups=4), "reads": 12}),
    "pixel shuffle": (two, (lambda s, x: F.pixel_shuffle(x, 2),), {"reads": 4}),
    "pixel unshuffle": (two, (lambda s, x: F.pixel_unshuffle(x, 2),), {"reads": 64}),
    "padded channels": (two, (lambda s, x: F.pad(x, (0, 0, 0, 0, 4, 4)),), {"reads": 24}),
    "pooled in channels last": (two, (lambda s, x: F.adaptive_avg_pool2d(
        x.contiguous(memory_format=torch.channels_last), 1),), {}),
    "padded pixels": (two, (lambda s, x: F.pad(x, (0, 1, 2, 1)),), {}),
    "concat": (two, (lambda s, x: torch.cat([x, x.relu()], 1),), {"reads": 32}),
    "split sizes": (two, (lambda s, x: torch.cat(torch.split(x, 8, 1)[::-1], 1),), {}),
    "fixed view": (two, (lambda s, x: x.view(-1, 16, 64).view(-1, 16, 8, 8),), {}),
    "split attention": (net, (split_attention,), {
        "a": conv(1, 16), "b": conv(16, 16), "c": conv(16, 16), "g": nn.Linear(16, 32),
        "fc": nn.Linear(16, 10)}),
    "tied": (tied_net, (), {}),
}  # fmt: skip


def shaken(module):
    """Give biases and statistics values that tell channels apart."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, LAYERS) and part.bias is not None:
            nn.init.normal_(part.bias, std=0.3)
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
    return module


def pruned(module, ratio=0.5, **params):
    made = registry.make(
        "optimization", "channel-pruning", {"ratio": ratio, "epochs": 0, **params}
    )
    return made.apply(Network(SPEC, module), None, None)


def without_channels(module, after):
    """Return the original with those channels zeroed that the pruned one lacks."""
    masked = copy.deepcopy(module)
    for part, left in zip(masked.modules(), after.modules(), strict=True):
        if isinstance(part, LAYERS) and part.bias is not None:
            place = {float(v): i for i, v in enumerate(part.bias.detach())}
            kept = {place[float(v)] for v in left.bias.detach()}
            gone = [i for i in range(len(part.bias)) if i not in kept]
            with torch.no_grad():
                part.bias[gone] = 0
                if isinstance(part, nn.ConvTranspose2d):
                    each = part.weight.shape[1]
                    for channel in gone:
                        rows = part.weight.shape[0] // part.groups
                        group = channel // each
                        part.weight[group * rows : (group + 1) * rows, channel % each] = 0
                else:
                    part.weight[gone] = 0
    return masked


@pytest.mark.parametrize("name", CASES)
def test_what_is_pruned_is_the_original_without_channels(name):
    make, arguments, more = CASES[name]
    module = shaken(make(*arguments, **more))
    before = copy.deepcopy(module.state_dict())
    try:
        done = pruned(module)
    except StepError as error:
        assert name in ("tied",)
        assert "g.weight" in str(error) or "Torch-Pruning cannot tell" in str(error)
        return
    assert all(torch.equal(module.state_dict()[k], t) for k, t in before.items())
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    after = done.network.module
    with torch.no_grad():
        expected = without_channels(module, after)(x)
        torch.testing.assert_close(after(x), expected, atol=2e-6, rtol=1e-5)
    layers = done.achieved["layers"]
    untouched = {k for k, (old, new) in layers.items() if old == new and k != "fc"}
    assert untouched <= set(done.achieved["left_alone"])
    assert any(old != new for old, new in layers.values())


LEFT = {
    "softmax over channels": ("a", "a softmax runs over channels"),
    "mean over channels": ("a", "a mean runs over channels"),
    "divided by width": ("a", "a number that depends on the width, 16 before and 8 after"),
    "a permutation by index": ("a", "(index)"),
    "shuffle by module": ("a", "channels change places (channel_shuffle) in s"),
    "fixed view": ("a", "sizes are written in"),
    "padded channels": ("a", ""),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_be_followed_is_left_alone_with_a_reason(name):
    make, arguments, more = CASES[name]
    achieved = pruned(make(*arguments, **more)).achieved
    layer, reason = LEFT[name]
    assert reason in achieved["left_alone"][layer]
    assert achieved["layers"]["b"] == [24, 12]
    assert (
        f"left alone {len(achieved['left_alone'])} of 3 layers ({layer}: " in achieved["said"][0]
    )


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_leaves_the_one_before_it_alone(layer):
    done = pruned(recurrent(lambda n, m: layer(n, m, batch_first=True)))
    assert done.achieved["layers"]["a"] == [16, 8]
    assert done.achieved["layers"]["b"] == [8, 8]
    assert "b" in done.achieved["left_alone"]


@pytest.mark.parametrize("change", [masks, normed])
def test_computed_weights_are_pruned_as_what_they_are(change):
    module = change(two(plain))
    done = pruned(module)
    assert done.achieved["layers"] == {"a": [16, 8], "b": [24, 12], "fc": [10, 10]}
    with torch.no_grad():
        assert done.network.module(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_layers_can_be_ignored_by_name_and_by_block():
    module = shaken(two(plain))
    achieved = pruned(module, ignore=["a"]).achieved
    assert achieved["layers"] == {"a": [16, 16], "b": [24, 12], "fc": [10, 10]}
    assert achieved["left_alone"] == {"a": "ignored, as asked"}
    block = nn.Sequential(conv(1, 8), nn.ReLU(), nn.Sequential(conv(8, 8), conv(8, 8)),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))  # fmt: skip
    achieved = pruned(block, ignore=["2"]).achieved
    assert [achieved["layers"][k][1] for k in ("0", "2.0", "2.1")] == [4, 8, 8]
    with pytest.raises(StepError, match=r"ignore: there is no layer 'bb'\."):
        pruned(module, ignore=["bb"])


def test_ignoring_nothing_leaves_no_trace_in_keys():
    plain_choice = registry.make("optimization", "channel-pruning", {"ratio": 0.5})
    assert "ignore" not in registry.choice(plain_choice).params
    other = registry.make("optimization", "channel-pruning", {"ratio": 0.5, "ignore": ["a"]})
    assert registry.choice(other).params["ignore"] == ["a"]
    assert registry.revive("optimization", registry.choice(other)) == other


def test_a_network_without_layers_to_prune_is_refused_with_the_reason():
    bare = net(lambda s, x: F.linear(x.flatten(1), s.w), w=nn.Parameter(torch.randn(10, 64)))
    with pytest.raises(StepError, match="channel-pruning: there is nothing to remove channels of"):
        pruned(bare)
    only = two(lambda s, x: x.softmax(1))
    with pytest.raises(StepError, match=r"no layer could lose channels.*a softmax runs"):
        pruned(only, ignore=["b"])


def test_a_layer_that_cannot_be_near_the_ratio_is_said():
    """Three heads cannot be halved; three channels can lose a third, and that is near."""
    few = nn.Sequential(conv(1, 3), nn.ReLU(), conv(3, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(24, 10))  # fmt: skip
    achieved = pruned(few, ratio=0.3).achieved
    assert (achieved["far"], achieved["said"]) == ({}, [])
    timm = pytest.importorskip("timm")
    vit = timm.models.VisionTransformer(
        img_size=8, patch_size=4, in_chans=1, num_classes=10, embed_dim=24, depth=1, num_heads=3
    )
    achieved = pruned(vit.eval(), ratio=0.5).achieved
    assert "blocks.0.attn.qkv" in {**achieved["left_alone"], **achieved["far"]}
    assert achieved["said"]


def test_layers_far_from_the_ratio_are_listed_and_said():
    """As Torch-Pruning left them in ghost modules: 36 of 2 channels."""
    layers = {"a": [16, 8], "ghost": [36, 2], "few": [3, 2], "head": [10, 10], "left": [9, 9]}
    far = channel_pruning._far(layers, {"left"}, 0.5, 1)
    assert far == {"ghost": 0.9444}
    told = channel_pruning._sentences({"layers": layers}, {"left": "asked"}, far, 0.5)
    assert list(told) == [
        "left alone 1 of 5 layers (left: asked)",
        "asked for 50% of the channels, far from that: ghost 94%",
    ]


def test_outputs_that_two_heads_share_keep_their_channels_apart():
    module = net(
        lambda s, x: s.one(F.relu(s.a(x)).mean((2, 3))) + s.two(F.relu(s.b(x)).amax((2, 3))),
        a=conv(1, 16), b=conv(1, 12), one=nn.Linear(16, 10), two=nn.Linear(12, 10),
    )  # fmt: skip
    layers = pruned(module).achieved["layers"]
    assert layers == {"a": [16, 8], "b": [12, 6], "one": [10, 10], "two": [10, 10]}


def test_a_batch_that_is_written_in_is_said_before_fine_tuning():
    class Images:
        labels, ids, content = torch.arange(64).numpy() % 10, tuple(map(str, range(64))), "x"

        def images(self, indices):
            return torch.zeros(len(indices), 1, 8, 8).numpy()

    module = net(lambda s, x: s.fc(F.relu(s.a(x)).view(1, 16, 64).mean(2)),
                 a=conv(1, 16), fc=nn.Linear(16, 10))  # fmt: skip
    for name, more in (("weight-pruning", {"sparsity": 0.5}), ("channel-pruning", {"ratio": 0})):
        made = registry.make("optimization", name, {**more, "batch_size": 16})
        with pytest.raises(StepError, match=r"fine-tuned in batches of 16.*Give a batch_size"):
            made.apply(Network(SPEC, module), Images(), None)


def test_weights_of_no_layer_are_not_pruned_one_by_one_either():
    bare = net(lambda s, x: F.linear(x.flatten(1), s.w), w=nn.Parameter(torch.randn(10, 64)))
    made = registry.make("optimization", "weight-pruning", {"sparsity": 0.5, "epochs": 0})
    with pytest.raises(StepError, match="no convolution or linear layer as a module"):
        made.apply(Network(SPEC, bare), None, None)


# ---------------------------------------------------------------- the proof can fail


def test_the_proof_finds_a_single_wrong_column():
    module = shaken(two(plain))
    traced = trace(copy.deepcopy(module), SPEC.shape)
    done = Shrinking(module, SPEC, 0.5).run().module
    rows = _kept(module.a.bias, done.a.bias)
    parts = {name: Slice(tuple(t.shape)) for name, t in tensors_of(module).items()}
    group = frozenset(["a"])
    b = _kept(module.b.bias, done.b.bias)
    parts["a.weight"] = Slice((16, 1, 3, 3), {0: rows}, {0: group})
    parts["a.bias"] = Slice((16,), {0: rows}, {0: group})
    parts["b.bias"] = Slice((24,), {0: b}, {0: frozenset(["b"])})
    parts["fc.weight"] = Slice((10, 24), {1: b}, {1: frozenset(["b"])})

    def weight(columns):
        return Slice((24, 16, 3, 3), {0: b, 1: columns}, {0: frozenset(["b"]), 1: group})

    prove(traced, done, {**parts, "b.weight": weight(rows)})
    wrong = rows.clone()
    wrong[0] = next(i for i in range(16) if i not in rows.tolist())
    with pytest.raises(Unfollowed, match=r"reads other channels than before \(convolution\) in b"):
        prove(traced, done, {**parts, "b.weight": weight(wrong.sort().values)})


def _kept(before, after):
    places = {float(v): i for i, v in enumerate(before.detach())}
    return torch.tensor([places[float(v)] for v in after.detach()])


@pytest.mark.parametrize("value", [0, 0.5])
def test_pixels_may_be_padded(value):
    done = pruned(two(lambda s, x: F.pad(x, (1, 1), value=value)))
    assert not done.achieved["left_alone"]
    assert done.achieved["layers"]["a"] == [16, 8]


def test_what_torch_pruning_cannot_follow_is_told_in_words(monkeypatch):
    import torch_pruning

    def fail(*_, **__):
        raise IndexError("index 320 is out of bounds for dimension 0 with size 320")

    monkeypatch.setattr(torch_pruning.DependencyGraph, "build_dependency", fail)
    with pytest.raises(StepError) as caught:
        pruned(two(plain))
    assert "does not follow how this network joins" in str(caught.value)
    assert "out of bounds" not in str(caught.value)
    assert "(IndexError)" in str(caught.value)


def test_what_the_network_itself_raises_is_told_as_it_is():
    def brightest(self, x):
        return head(self, self.a(x) * x[x.nonzero().unbind(1)][0])

    with pytest.raises(StepError) as caught:
        pruned(net(brightest, a=conv(1, 16), fc=nn.Linear(16, 10)))
    assert "IndexError: index 0 is out of bounds" in str(caught.value)
    assert "does not follow" not in str(caught.value)


def _groups_of(module, shape, layers):
    """Every group that starts at some layers, as names, functions and channels."""
    import torch_pruning

    with quiet():
        graph = torch_pruning.DependencyGraph().build_dependency(module, torch.zeros(shape))
    found = []
    for layer in layers:
        part = module.get_submodule(layer)
        pruner = graph.get_pruner_of_module(part)
        group = graph.get_pruning_group(
            part, pruner.prune_out_channels, list(range(pruner.get_out_channels(part)))
        )
        found.append(
            [(dep.target.name, dep.handler.__name__, idxs, entry.root_idxs)
             for entry in group.items for dep, idxs in [entry]]
        )  # fmt: skip
    return found


def test_groups_that_are_looked_up_are_those_of_torch_pruning():
    import timm

    module = timm.create_model("mobilevitv2_050", num_classes=4).eval()
    layers = [name for name, part in module.named_modules() if is_layer(part)]
    # Those before and inside attention, where entries of one layer are many and are merged.
    some = [*layers[:4], *[n for n in layers if "attn" in n][:3]]
    usual = _groups_of(module, (1, 3, 64, 64), some)
    with indexed_groups(module):
        indexed = _groups_of(module, (1, 3, 64, 64), some)
    assert indexed == usual
    assert any(len(group) > 20 for group in usual)


def test_channels_that_multiply_in_a_circle_are_left_alone_in_time(monkeypatch):
    # As in timm's gcresnext26ts, whose lists come to fifty million; here one longer than eight.
    monkeypatch.setattr(grouping, "TIMES", 1 / 64)
    with pytest.raises(StepError, match="a group would hold more channels than any layer has"):
        pruned(
            nn.Sequential(conv(1, 16), nn.ReLU(), conv(16, 8), nn.Flatten(), nn.Linear(512, 10))
        )
