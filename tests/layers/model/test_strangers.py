"""Networks as they come: habits of people's own code, and what is said of each."""

import sys
import textwrap

import pytest

torch = pytest.importorskip("torch")

from dlas.core import registry  # noqa: E402
from dlas.core.errors import StepError, UserError  # noqa: E402
from dlas.core.keys import file_hash  # noqa: E402
from dlas.testing import SmallImages  # noqa: E402

NETS = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm

class Net(nn.Module):
    def __init__(self, c, n, wrap=lambda conv: conv):
        super().__init__()
        self.a = wrap(nn.Conv2d(c, 8, 3, padding=1))
        self.b = wrap(nn.Conv2d(8, 8, 3, padding=1))
        self.fc = nn.Linear(8, n)
    def features(self, x):
        return F.relu(self.b(F.relu(self.a(x)))).mean((2, 3))
    def forward(self, x):
        return self.fc(self.features(x))

class DropOn(Net):
    def forward(self, x):
        return self.fc(F.dropout(self.features(x), 0.5))

class Noisy(Net):
    def __init__(self, c, n):
        super().__init__(c, n)
        self.inner = nn.Module()
    def forward(self, x):
        return super().forward(x + torch.randn_like(x))

class Counting(Net):
    calls = 0
    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls

class Writes(Net):
    def forward(self, x):
        return super().forward(x.sub_(0.5).div_(0.25))

class WritesPart(Net):
    def forward(self, x):
        x[:, :, 0] = 0
        return super().forward(x)

class Named(Net):
    def forward(self, x):
        return {"logits": super().forward(x), "features": x}

class Pair(Net):
    def forward(self, x):
        return super().forward(x), x

class Batch(nn.Module):
    def __init__(self, c, n, batch):
        super().__init__()
        self.batch, self.fc = batch, nn.Linear(c * 64, n)
    def forward(self, x):
        return self.fc(x.view(self.batch, -1))

class Sym(nn.Module):
    def forward(self, w):
        return w + w.transpose(2, 3)

def masked(conv):
    prune.l1_unstructured(conv, "weight", 0.5)
    return prune.random_unstructured(conv, "bias", 0.5)

def custom(conv):
    parametrize.register_parametrization(conv, "weight", Sym())
    return conv

def make(cls, *more):
    return lambda num_classes, in_channels, size: cls(in_channels, num_classes, *more)

dropon, noisy, counting, writes, writes_part, named, pair = map(
    make, (DropOn, Noisy, Counting, Writes, WritesPart, Named, Pair))
one, eight = make(Batch, 1), make(Batch, 8)
weight_norm, spectral, old_spectral, orthogonal, symmetric, prune_masks = (
    make(Net, wrap) for wrap in (parametrizations.weight_norm, parametrizations.spectral_norm,
                                 spectral_norm, parametrizations.orthogonal, custom, masked))
plain = make(Net)

def old_weight_norm(num_classes, in_channels, size):
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Net(in_channels, num_classes, nn.utils.weight_norm)
def compiled(num_classes, in_channels, size):
    return torch.compile(Net(in_channels, num_classes))
def parallel(num_classes, in_channels, size):
    return nn.DataParallel(Net(in_channels, num_classes))
def scripted(num_classes, in_channels, size):
    return torch.jit.script(Net(in_channels, num_classes))
def no_arguments():
    return Net(1, 10)
class Lazy(nn.Module):
    def __init__(self, c, n):
        super().__init__()
        self.a, self.bn, self.fc = nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.LazyLinear(n)
    def forward(self, x):
        return self.fc(self.bn(self.a(x)).flatten(1))
lazy = make(Lazy)
def meta(num_classes, in_channels, size):
    with torch.device("meta"):
        return Net(in_channels, num_classes)
def wrong(num_classes, in_channels, size):
    return nn.Conv2d(3, 4, 3, groups=2)
def local(num_classes, in_channels, size):
    class Here(Net):
        pass
    return Here(in_channels, num_classes)
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    (tmp_path / "strange.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "strange", raising=False)

    def of(name, batch=1):
        data = SmallImages(classes=10, channels=1, height=8, width=8, batch=batch)
        made = registry.make("model", "torch", {"factory": f"strange:{name}"})
        return made.build(data).module

    yield of
    sys.modules.pop("strange", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dropon", r"not deterministic.*drawn by \w+ in its own forward.*self\.training"),
        ("noisy", "not deterministic.*drawn by randn_like"),
        ("counting", "not deterministic.*remembers what it has seen"),
        ("writes", "writes to its input"),
        ("writes_part", "writes to its input"),
        ("named", "returns a dict .*one of the entries 'logits', 'features'"),
        ("pair", "returns a tuple .*one of the 2"),
        ("eight", r"does not take images of \(1, 1, 8, 8\), but of batch 8.*`batch: 8`"),
        ("wrong", "cannot build a network for 10 classes.*ValueError: in_channels must be"),
    ],
)
def test_what_cannot_be_run_is_told_with_its_reason(build, name, message):
    with pytest.raises(StepError, match=message):
        build(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scripted", "got a TorchScript one"),
        ("meta", r"6 tensors .* no numbers, a\.weight among them \(device 'meta'\)"),
        ("no_arguments", r"called as no_arguments\(num_classes=10.*its parameters are \(\)"),
    ],
)
def test_what_the_user_can_mend_is_a_mistake_of_the_user(build, name, message):
    with pytest.raises(UserError, match=message):
        build(name)


def test_a_batch_that_is_written_in_is_run_as_it_is(build):
    assert build("eight", batch=8)(torch.zeros(8, 1, 8, 8)).shape == (8, 10)
    with pytest.raises(StepError, match=r"of \(8, 1, 8, 8\), but of batch 1"):
        build("one", batch=8)


@pytest.mark.parametrize("name", ["compiled", "parallel"])
def test_wrappers_are_taken_off(build, name):
    assert type(build(name)) is type(build("plain"))
    assert torch.equal(build(name).a.weight, build("plain").a.weight)


def test_lazy_layers_get_their_sizes_from_the_images(build):
    module = build("lazy")
    assert module.a.weight.shape == (8, 1, 3, 3) and module.fc.in_features == 8 * 36
    assert torch.equal(module.bn.running_mean, torch.zeros(8))
    with torch.no_grad():
        assert module(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert torch.equal(build("lazy").fc.weight, module.fc.weight)


COMPUTED = ["weight_norm", "old_weight_norm", "spectral", "old_spectral", "orthogonal",
            "symmetric", "prune_masks"]  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_a_computed_weight_becomes_what_it_is(build, name):
    module = build(name)
    names = {n for n, _ in module.named_parameters()}
    assert names == {n for n, _ in build("plain").named_parameters()}
    assert type(module.a) is torch.nn.Conv2d
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        raw = getattr(sys.modules["strange"], name)(10, 1, (8, 8)).eval()
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(module(x), raw(x))


def test_of_masked_weights_the_zeros_count(build):
    module = build("prune_masks")
    assert int(module.a.weight.count_nonzero()) == 36
    assert int(module.b.weight.count_nonzero()) == 288
    assert int(module.b.bias.count_nonzero()) == 4


def test_a_network_of_a_class_made_in_its_factory_is_stored(build, tmp_path):
    from dlas.core.protocols import Network
    from dlas.core.stack import Choice
    from dlas.run.steps.saved import load_network, recipe, save_network

    data = SmallImages(classes=10, channels=1, height=8, width=8)
    model = registry.make("model", "torch", {"factory": "strange:local"})
    made = model.build(data)
    place = recipe(Choice("digits", {"size": 8}), registry.choice(model))
    save_network(Network(made.spec, made.module), tmp_path / "net", place)
    again = load_network(tmp_path / "net").module
    assert torch.equal(again.a.weight, made.module.a.weight)


# ---------------------------------------------------------------- source


def fingerprint(factory="pkgless:build"):
    return registry.make("model", "torch", {"factory": factory}).fingerprint()


HELPERS = {
    "import blocks": "blocks.py",
    "from blocks import act": "blocks.py",
    "def build(**_):\n    from lib import blocks": "lib/blocks.py",
    "from lib.deep.blocks import act": "lib/deep/blocks.py",
    "import importlib\nm = importlib.import_module('blocks')": "blocks.py",
    "import sys\nsys.path.insert(0, 'common')\nimport blocks": "common/blocks.py",
    "try:\n    import blocks\nexcept ImportError:\n    pass": "blocks.py",
    "from middle import *": "blocks.py",
}


@pytest.mark.parametrize("text", HELPERS)
def test_a_change_of_any_own_file_is_a_change(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pkgless.py").write_text(text + "\nimport torch, json\n")
    (tmp_path / "middle.py").write_text("import blocks")
    helper = tmp_path / HELPERS[text]
    helper.parent.mkdir(parents=True, exist_ok=True)
    helper.write_text("WIDTH = 8")
    other = tmp_path / "train.py"
    before = fingerprint()
    other.write_text("print('not imported')")
    assert fingerprint() == before
    helper.write_text("WIDTH = 16")
    assert fingerprint() != before


def test_of_a_package_every_file_counts_wherever_the_function_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "mynets"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text("from .sub.parts import act\nfrom . import other")
    (package / "sub" / "parts.py").write_text("act = 1")
    (package / "other.py").write_text("")
    (package / "unused.json").write_text("{}")
    seen = {str(fingerprint("mynets.net:build"))}
    for name in ("sub/parts.py", "other.py", "unused.json", "__init__.py"):
        (package / name).write_text('{"a": 1}')
        seen.add(str(fingerprint("mynets.net:build")))
    assert len(seen) == 5
    (tmp_path / "helper.py").write_text("")
    (package / "other.py").write_text("import helper")
    before = fingerprint("mynets.net:build")
    (tmp_path / "helper.py").write_text("x = 2")
    assert fingerprint("mynets.net:build") != before


def test_a_single_file_keeps_its_hash_and_an_installed_package_counts_by_version(
    tmp_path, monkeypatch
):
    from dlas.layers.model.shared import own_source

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "pkgless.py"
    file.write_text("import os\nimport torch\n")
    assert fingerprint()[0] == file_hash(file)
    file.write_text("import os\nimport torch\nimport numpy\n")
    before = fingerprint()[0]
    monkeypatch.setattr(own_source, "version", lambda _: "99")
    assert fingerprint()[0] not in (before, file_hash(file))


def test_source_that_cannot_be_parsed_is_hashed_and_told_when_it_is_built(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_source.py").write_text(textwrap.dedent("def build(:"))
    model = registry.make("model", "torch", {"factory": "broken_source:build"})
    assert model.fingerprint()
    with pytest.raises(UserError, match="cannot be imported: SyntaxError"):
        model.build(SmallImages(classes=10, channels=1, height=8, width=8))
