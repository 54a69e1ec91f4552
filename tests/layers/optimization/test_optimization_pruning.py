import numpy as np
import pytest
import timm
import torch
from torch import nn

from dlas.core import registry
from dlas.core.errors import StepError
from dlas.core.protocols import DataSpec, Network
from dlas.core.records import Stage
from dlas.run.plan import plan
from dlas.run.plan.preview import preview
from dlas.study.study import Study

SPEC = DataSpec(classes=10, channels=1, height=28, width=28)


class Noise:
    """Training images that say nothing: enough to see what fine-tuning does to weights."""

    labels = np.arange(64) % 10
    ids = tuple(map(str, range(64)))
    content = "noise"

    def images(self, indices):
        rng = np.random.default_rng(0)
        return rng.standard_normal((64, 1, 28, 28)).astype(np.float32)[list(indices)]


def prune(module, data=None, technique="weight-pruning", spec=SPEC, **params):
    made = registry.make("optimization", technique, {"epochs": 1 if data else 0, **params})
    return made.apply(Network(spec, module.eval()), data, None)


def conv_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def vit():
    torch.manual_seed(0)
    return timm.models.VisionTransformer(
        img_size=28, patch_size=4, in_chans=1, num_classes=10, embed_dim=32, depth=2, num_heads=4
    )


# ---------------------------------------------------------------- weights


def test_the_smallest_weights_of_all_layers_become_zero_and_no_others_change():
    module = conv_net()
    done = prune(module, sparsity=0.75)
    layers = [0, 3, 7]
    before = torch.cat([module[i].weight.detach().flatten() for i in layers])
    after = torch.cat([done.network.module[i].weight.detach().flatten() for i in layers])
    gone = after == 0
    assert int(gone.sum()) == round(0.75 * before.numel())
    assert before[gone].abs().max() <= before[~gone].abs().min()
    assert torch.equal(after[~gone], before[~gone])


def test_scope_layer_takes_the_same_share_of_each_layer():
    done = prune(conv_net(), sparsity=0.5, scope="layer")
    assert done.achieved["layers"] == {"0": 0.5, "3": 0.5, "7": 0.5}
    everywhere = prune(conv_net(), sparsity=0.5).achieved["layers"]
    assert len(set(everywhere.values())) > 1


def fours(weight):
    """The fours of neighbouring input channels of each output channel and place; rest: zeros."""
    last = weight.detach().movedim(1, -1)
    return nn.functional.pad(last, (0, -last.shape[-1] % 4)).unflatten(-1, (-1, 4))


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_blocks_of_four_input_channels_become_zero_together(scope):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(8, 24, 3), nn.ReLU(), nn.Conv2d(24, 10, 1), nn.Flatten(), nn.Linear(90, 6)
    )
    done = prune(module, sparsity=0.75, block="1x4", scope=scope)
    gone, kept, means = 0, 0, {True: [], False: []}
    for place in (0, 2, 4):
        before, after = fours(module[place].weight), fours(done.network.module[place].weight)
        zero = (after == 0).all(-1)
        assert torch.equal(after[~zero], before[~zero])
        gone, kept = gone + int(zero.sum()), kept + int((~zero).sum())
        if scope == "layer":
            assert int(zero.sum()) == round(0.75 * zero.numel())
        means[True].append(before[zero].abs().mean(-1))
        means[False].append(before[~zero].abs().mean(-1))
    assert gone / (gone + kept) == pytest.approx(0.75, abs=0.01)
    if scope == "global":  # all widths but the last layer's are whole fours
        assert torch.cat(means[True][:2]).max() <= torch.cat(means[False][:2]).min() + 1e-6
    assert done.achieved["sparsity"] == pytest.approx(0.75, abs=0.01)


def test_a_block_of_one_weight_leaves_older_cells_as_they_were():
    plain = registry.make("optimization", "weight-pruning", {"sparsity": 0.5})
    single = registry.make("optimization", "weight-pruning", {"sparsity": 0.5, "block": "1x1"})
    blocks = registry.make("optimization", "weight-pruning", {"sparsity": 0.5, "block": "1x4"})
    assert registry.choice(plain) == registry.choice(single)
    assert "block" not in registry.choice(plain).params
    chosen = registry.choice(blocks)
    assert chosen.text == "weight-pruning(block=1x4,sparsity=0.5)"
    assert registry.revive("optimization", chosen) == blocks


def test_zeros_stay_zero_through_fine_tuning_and_the_others_learn():
    module = conv_net()
    cut = prune(module, sparsity=0.8).network.module
    tuned = prune(module, Noise(), sparsity=0.8, epochs=2, batch_size=16).network.module
    for layer in (0, 3, 7):
        zero = cut[layer].weight == 0
        assert bool((tuned[layer].weight[zero] == 0).all())
        assert not torch.equal(tuned[layer].weight, cut[layer].weight)


def test_what_is_achieved_is_counted_after_fine_tuning():
    done = prune(conv_net(), Noise(), sparsity=0.9)
    weights = [done.network.module[i].weight for i in (0, 3, 7)]
    zeros = sum(int((w == 0).sum()) for w in weights)
    total = sum(w.numel() for w in weights)
    achieved = done.achieved
    assert (achieved["zeros"], achieved["weights"]) == (zeros, total)
    assert achieved["sparsity"] == zeros / total == pytest.approx(0.9, abs=1 / total)
    assert achieved["sparsity_asked"] == 0.9
    assert achieved["layers"]["3"] == int((weights[1] == 0).sum()) / weights[1].numel()
    assert achieved["fine_tuning"]["images"] == 64


def test_sparsity_zero_without_fine_tuning_changes_nothing():
    module = conv_net()
    done = prune(module, sparsity=0)
    assert done.achieved["zeros"] == 0
    for name, value in module.state_dict().items():
        assert torch.equal(value, done.network.module.state_dict()[name])


class Odd(nn.Module):
    """Shared weights, and attention whose layers are never called as modules."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(28, 28), nn.Linear(28, 28)
        self.second.weight = self.first.weight
        self.attention = nn.MultiheadAttention(28, 4, batch_first=True)
        self.head = nn.Linear(28, 10)

    def forward(self, x):
        x = self.second(torch.relu(self.first(x[:, 0])))
        return self.head(self.attention(x, x, x)[0].mean(1))


def test_shared_weights_stay_shared_and_packed_attention_is_pruned():
    done = prune(Odd(), Noise(), sparsity=0.5, epochs=2, batch_size=16)
    module = done.network.module
    assert module.second.weight is module.first.weight
    assert sorted(done.achieved["layers"]) == ["attention", "attention.out_proj", "first", "head"]
    weights = (
        module.first.weight,
        module.attention.in_proj_weight,
        module.attention.out_proj.weight,
        module.head.weight,
    )
    zeros = sum(int((w == 0).sum()) for w in weights)
    assert zeros / sum(w.numel() for w in weights) == pytest.approx(0.5, abs=1e-3)


def test_fine_tuning_without_images_is_refused():
    technique = registry.make("optimization", "weight-pruning", {"sparsity": 0.5})
    with pytest.raises(StepError, match="needs training images"):
        technique.apply(Network(SPEC, conv_net()), None, None)


# ---------------------------------------------------------------- channels


def random_images(count=4, seed=0):
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def outputs(module):
    with torch.no_grad():
        return module.eval()(random_images())


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv2_035"])
def test_channels_that_do_nothing_leave_without_a_trace(name):
    """Half of the channels are switched off: pruning must find them, with all that they touch."""
    torch.manual_seed(0)
    module = timm.create_model(name, in_chans=1, num_classes=10)
    _switch_off_odd_channels(module)
    expected = outputs(module)
    done = prune(module, technique="channel-pruning", ratio=0.5)
    error = (outputs(done.network.module) - expected).abs().max()
    assert error < 1e-4 * expected.std(0).max()
    assert done.achieved["macs_ratio"] < 0.3


def _switch_off_odd_channels(module):
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight[1::2] = 0
                part.bias[1::2] = 0
            elif isinstance(part, nn.Conv2d):
                part.weight[1::2] = 0
                if part.groups == 1 and part.in_channels > 1:
                    part.weight[:, 1::2] = 0
            elif isinstance(part, nn.Linear):
                part.weight[:, 1::2] = 0


def test_a_transformer_loses_whole_heads_and_the_same_width_everywhere():
    module = vit()
    # Values that name their place: width w, rows by place.
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(_places(name, parameter))
        for block in module.blocks:  # heads 1 and 3 are weak
            for part in (1, 3, 5, 7, 9, 11):
                block.attn.qkv.weight[part * 8 : part * 8 + 8] *= 1e-3
            block.attn.proj.weight[:, 8:16] *= 1e-3
            block.attn.proj.weight[:, 24:32] *= 1e-3
    done = prune(module, technique="channel-pruning", ratio=0.5)
    after = done.network.module
    assert done.achieved["heads"] == [[4, 2], [4, 2]]
    width = _kept(module.pos_embed[0, 0], after.pos_embed[0, 0])
    assert len(width) == 16
    heads = [*range(8), *range(16, 24)]
    rows = [part * 32 + h for part in range(3) for h in heads]
    for old, new in zip(module.blocks, after.blocks, strict=True):
        assert (new.attn.num_heads, new.attn.head_dim, new.attn.attn_dim) == (2, 8, 16)
        assert new.attn.scale == old.attn.scale
        assert torch.equal(new.attn.qkv.weight, old.attn.qkv.weight[rows][:, width])
        assert torch.equal(new.attn.proj.weight, old.attn.proj.weight[width][:, heads])
        hidden = _kept(old.mlp.fc1.bias, new.mlp.fc1.bias)
        assert len(hidden) == 64
        assert torch.equal(new.mlp.fc1.weight, old.mlp.fc1.weight[hidden][:, width])
        assert torch.equal(new.mlp.fc2.weight, old.mlp.fc2.weight[width][:, hidden])
        assert torch.equal(new.norm1.weight, old.norm1.weight[width])
    assert torch.equal(after.cls_token, module.cls_token[..., width])
    assert torch.equal(after.patch_embed.proj.weight, module.patch_embed.proj.weight[width])
    assert torch.equal(after.head.weight, module.head.weight[:, width])
    assert torch.equal(after.head.bias, module.head.bias)


def _places(name, parameter):
    generator = torch.Generator().manual_seed(len(name))
    return torch.rand(parameter.shape, generator=generator) + 0.5


def _kept(before, after):
    """Return which elements of a vector of distinct values are still there, in order."""
    places = [int((before == value).nonzero()) for value in after]
    assert places == sorted(places)
    return places


def test_outputs_are_kept_even_where_other_layers_have_as_many_channels():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(),
        nn.Linear(10, 10),
    )  # fmt: skip
    layers = prune(module, technique="channel-pruning", ratio=0.5).achieved["layers"]
    assert layers == {"1": [10, 5], "3": [10, 5], "5": [10, 10]}


def test_a_convolution_can_be_the_classifier():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    done = prune(module, technique="channel-pruning", ratio=0.5)
    assert done.achieved["layers"] == {"0": [8, 4], "2": [10, 10]}


def test_what_remains_can_be_rounded():
    module = timm.create_model("resnet10t", in_chans=1, num_classes=10)
    done = prune(module, technique="channel-pruning", ratio=0.3, round_to=8)
    kept = [after for name, (_, after) in done.achieved["layers"].items() if name != "fc"]
    assert all(channels % 8 == 0 for channels in kept)


def test_what_channel_pruning_achieves_is_counted_from_the_tensors():
    module = conv_net()
    done = prune(module, Noise(), "channel-pruning", ratio=0.5, batch_size=16)
    after, achieved = done.network.module, done.achieved
    assert (after[0].weight.shape, after[3].weight.shape) == ((4, 1, 3, 3), (8, 2, 3, 3))
    assert achieved["layers"] == {"0": [8, 4], "3": [16, 8], "7": [10, 10]}
    assert achieved["channels"] == [34, 22]
    assert achieved["ratio"] == 1 - 22 / 34
    assert achieved["params"] == [sum(p.numel() for p in m.parameters()) for m in (module, after)]
    macs = [26 * 26 * 9 * c + 24 * 24 * 9 * c * 2 * c // 2 + 10 * 2 * c for c in (8, 4)]
    assert achieved["macs"] == macs
    assert achieved["macs_ratio"] == macs[1] / macs[0]


def test_ratio_zero_removes_nothing():
    done = prune(conv_net(), technique="channel-pruning", ratio=0)
    assert done.achieved["ratio"] == 0
    assert done.achieved["params_ratio"] == 1


def test_zeros_of_an_earlier_pruning_survive_the_fine_tuning_after_channel_pruning():
    sparse = prune(conv_net(), sparsity=0.8).network.module
    untrained = prune(sparse, None, "channel-pruning", ratio=0.5).network.module
    tuned = prune(sparse, Noise(), "channel-pruning", ratio=0.5, batch_size=16).network.module
    for layer in (0, 3, 7):
        zero = untrained[layer].weight == 0
        assert bool(zero.any())
        assert bool((tuned[layer].weight[zero] == 0).all())


class Stubborn(nn.Module):
    """Reshapes to a fixed number of channels, so it cannot be pruned."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.conv(x).reshape(len(x), 8, 26 * 26).mean(2))


def test_an_architecture_that_cannot_be_pruned_is_an_error_not_a_wrong_network():
    with pytest.raises(
        StepError, match=r"no layer could lose channels\. conv: its sizes are written in"
    ):
        prune(Stubborn(), technique="channel-pruning", ratio=0.5)


def iterative(sparsity):
    params = {"sparsity": sparsity, "steps": [0.8, 0.5, 0.9]}
    return registry.make("optimization", "iterative-pruning", params)


def test_iterative_pruning_goes_on_from_the_step_before():
    assert iterative(0.95).before() == iterative(0.9)
    assert iterative(0.9).before() == iterative(0.8)
    assert iterative(0.6).before() == iterative(0.5)
    assert iterative(0.5).before() is None


def sweep(*sparsity):
    pruning = {"iterative-pruning": {"sparsity": list(sparsity), "steps": [0.5, 0.8]}}
    layers = {
        "dataset": ["digits"], "model": ["resnet-8"], "software": ["pytorch"],
        "optimization": [pruning],
    }  # fmt: skip
    return Study.from_dict({"name": "sweep", "layers": layers})


def trained(study):
    steps = [s for s in plan.make(study).steps.values() if s.stage is Stage.OPTIMIZE]
    return sorted(s.args["technique"]["params"]["sparsity"] for s in steps)


def test_a_sweep_of_iterative_pruning_trains_what_it_has_in_common_once():
    assert trained(sweep(0.5, 0.8, 0.95)) == [0.5, 0.8, 0.95]
    assert trained(sweep(0.95)) == [0.5, 0.8, 0.95]
    few, many = (preview(sweep(*each))["expected_mb"] for each in ([0.5], [0.95]))
    assert many > few  # what is on the way has a size, too
