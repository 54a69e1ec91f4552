import json

import timm
import torch
from torch import nn

from dlas.core.protocols import DataSpec, Network
from dlas.networks.counting import count
from dlas.run.steps.convert import to_onnx
from dlas.run.steps.inspect import inspect_network

SPEC = DataSpec(classes=10, channels=1, height=28, width=28)


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.skip(x))


def resnet8():
    """The residual network of MLPerf Tiny at 28 x 28, one channel in."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).eval()


RESNET8_MACS = (
    28 * 28 * 9 * 16  # stem
    + 2 * 28 * 28 * 9 * 16 * 16
    + 14 * 14 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
    + 7 * 7 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
    + 64 * 10
)
RESNET8_PARAMS = (
    9 * 16
    + 2 * 9 * 16 * 16
    + (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32 + 32)
    + (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64 + 64)
    + (64 * 10 + 10)
    + 2 * (3 * 16 + 2 * 32 + 2 * 64)  # norms
)


def test_resnet8_against_numbers_worked_out_by_hand():
    facts = inspect_network(Network(SPEC, resnet8()))
    assert facts.macs == facts.effective_macs == RESNET8_MACS
    assert facts.params == facts.nonzero_params + int(_zeros(resnet8()))
    assert facts.params == RESNET8_PARAMS
    assert facts.weights_mb == RESNET8_PARAMS * 4 / 1e6
    by_name = {layer.name: layer for layer in facts.layers}
    assert by_name["4.conv1"].macs == 14 * 14 * 9 * 16 * 32
    assert by_name["4.skip"].macs == 14 * 14 * 16 * 32
    assert by_name["8"].macs == 640
    assert len(facts.layers) == 10


def _zeros(module):
    return sum((p == 0).sum() for p in module.parameters())


def test_the_precision_decides_the_bytes():
    module = resnet8()
    for precision, size in {"float16": 2, "bfloat16": 2, "float32": 4}.items():
        facts = inspect_network(Network(SPEC, module, None, precision))
        assert facts.weights_mb == RESNET8_PARAMS * size / 1e6


def test_the_batch_counts():
    facts = inspect_network(Network(DataSpec(10, 1, 28, 28, batch=3), resnet8()))
    assert facts.macs == 3 * RESNET8_MACS


def vit(depth=1):
    return timm.models.VisionTransformer(
        img_size=28, patch_size=4, in_chans=1, num_classes=10, embed_dim=128, depth=depth,
        num_heads=4,
    ).eval()  # fmt: skip


def test_an_attention_block_against_numbers_worked_out_by_hand():
    tokens, width = 50, 128
    expected = {
        "patch_embed.proj": 49 * 128 * 16,
        "blocks.0.attn.qkv": tokens * width * 3 * width,
        "blocks.0.attn": 2 * tokens * tokens * width,  # queries by keys, then by values
        "blocks.0.attn.proj": tokens * width * width,
        "blocks.0.mlp.fc1": tokens * width * 4 * width,
        "blocks.0.mlp.fc2": tokens * width * 4 * width,
        "head": width * 10,
    }
    facts = inspect_network(Network(SPEC, vit()))
    assert {layer.name: layer.macs for layer in facts.layers} == expected
    assert facts.macs == sum(expected.values())


def test_torchs_own_attention_layer_is_counted_on_its_fast_path_too():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()

    class Tokens:
        shape = (1, 5, 16)

    counted = {each.name: each.macs for each in count(layer, Tokens()).layers}
    assert counted == {
        "self_attn.in_proj_weight": 5 * 16 * 48,
        "self_attn": 2 * 5 * 5 * 16,
        "self_attn.out_proj": 5 * 16 * 16,
        "linear1": 5 * 16 * 32,
        "linear2": 5 * 32 * 16,
    }
    assert torch.backends.mha.get_fastpath_enabled()


def test_groups_divide_and_a_shared_layer_counts_each_time_it_runs():
    depthwise = nn.Conv2d(8, 8, 3, groups=8)
    shared = nn.Conv2d(8, 8, 1)
    module = nn.Sequential(nn.Conv2d(1, 8, 1), depthwise, shared, shared).eval()
    facts = inspect_network(Network(SPEC, module))
    macs = [layer.macs for layer in facts.layers]
    assert macs == [28 * 28 * 8, 26 * 26 * 9 * 8, 2 * 26 * 26 * 64]
    assert facts.params == 16 + 80 + 72


def test_effective_macs_weigh_each_layer_by_its_zeros():
    module = resnet8()
    with torch.no_grad():
        module[0].weight[:4] = 0  # a quarter of the stem
        module[4].conv2.weight.zero_()
    facts = inspect_network(Network(SPEC, module))
    gone = 28 * 28 * 9 * 4 + 14 * 14 * 9 * 32 * 32
    assert facts.macs == RESNET8_MACS
    assert facts.effective_macs == RESNET8_MACS - gone
    by_name = {layer.name: layer for layer in facts.layers}
    assert (by_name["0"].weights, by_name["0"].nonzero) == (144, 108)
    assert by_name["4.conv2"].effective == 0


def test_an_onnx_file_counts_as_its_module_does(tmp_path):
    for name, module in {"resnet": resnet8(), "vit": vit()}.items():
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(torch.rand_like(parameter) > 0.7)
        path = tmp_path / f"{name}.onnx"
        to_onnx(Network(SPEC, module), path)
        here = inspect_network(Network(SPEC, module))
        there = inspect_network(Network(SPEC, None, path))
        assert there.uncounted == ()
        assert (there.macs, there.effective_macs) == (here.macs, here.effective_macs)
        assert sorted(x.macs for x in there.layers if x.weights) == sorted(
            x.macs for x in here.layers if x.weights
        )


def test_the_facts_are_json():
    facts = inspect_network(Network(SPEC, resnet8())).to_json()
    assert json.loads(json.dumps(facts))["macs"] == RESNET8_MACS
