"""What a technique of each layer implements.

A technique is a frozen dataclass whose fields are its parameters. It derives from the class of
its layer below, which supplies a default for everything that is optional. Importing the module of
a technique must be quick: torch, TVM and the like are imported inside the methods. What passes
between techniques stands in ``between.py``, and can be had from here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, get_args

from pydantic import Field

from dlas.core.between import DataSpec as DataSpec
from dlas.core.between import Form as Form
from dlas.core.between import Network as Network
from dlas.core.between import Optimized as Optimized
from dlas.core.between import Precision as Precision
from dlas.core.between import Ran as Ran
from dlas.core.between import Samples as Samples
from dlas.core.between import Session as Session
from dlas.core.contents import Contents, split_read
from dlas.core.keys import Json
from dlas.core.refuse import Refusal as Refusal
from dlas.core.refuse import impossible as impossible
from dlas.core.refuse import unavailable as unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from dlas.core.between import Array as Array
    from dlas.core.between import Labels as Labels

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
OF_NETWORKS = ("torch", "timm", "safetensors")
"""The modules by which a build reads a torch module, or the program exported of one."""
LABEL = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
Label = Annotated[str, Field(pattern=LABEL)]
"""What a machine is called that cells are to run on: one word, which no shell or file minds."""


class Program(Protocol):
    """A lowered network as a build sees it. Each form is read from disk when it is asked for."""

    @property
    def spec(self) -> DataSpec:
        """The shape of the problem."""

    @property
    def precision(self) -> Precision:
        """The precision asked of the runtime."""

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm technique of the stack."""

    def network(self) -> Network:
        """The network itself (needs torch)."""

    def onnx(self) -> Path:
        """The ONNX file (float32, or QDQ for int8), for software whose form is ``onnx``."""

    def exported(self) -> ExportedProgram:
        """The ``torch.export.ExportedProgram`` (float32), for the form ``exported``."""

    def calibration(self) -> Array | None:
        """The images ``(n, C, H, W)`` on which to quantize; None: not asked of the runtime."""


@dataclass(frozen=True, kw_only=True)
class Technique:
    """What all techniques share. Fields of subclasses are parameters; classvars are facts."""

    layer: ClassVar[str]
    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    """Modules that must be importable, e.g. ``("onnxruntime",)``; otherwise unavailable."""
    extra: ClassVar[str] = ""
    """The extra of the package that brings ``requires``: ``pip install dlas[extra]``."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions that do the work: their versions enter the keys."""
    sources: ClassVar[tuple[str, ...]] = ()
    """Modules beside its own whose source decides what it does: they enter its version."""
    places: ClassVar[tuple[str, ...]] = ()
    """Parameters that are paths: no part of a key; what lies there is (``fingerprint``)."""
    whole: ClassVar[str] = ""
    """The field that takes all that is written below the technique's name, its keys the user's."""
    unshown: ClassVar[tuple[str, ...]] = ()
    """Fields that the canonical text leaves out, since another one tells them apart."""
    added: ClassVar[tuple[str, ...]] = ()
    """Parameters that are no part of a choice where they have their default: cells from before
    there were such parameters are still the same cells."""

    def needs(self) -> tuple[str, ...]:
        """Return the modules without which it cannot run with these parameters."""
        return self.requires

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Return why this technique cannot stand in a stack, or None."""
        return None

    def fingerprint(self) -> Any:
        """Return what else decides the result, as JSON: hashes of files that parameters name."""
        return None


@dataclass(frozen=True, kw_only=True)
class Dataset(Technique):
    """Labelled images with their preprocessing, batch, resolution and score function.

    ``batch`` is the number of images of one inference.
    """

    layer: ClassVar[str] = "dataset"
    licence: ClassVar[str]
    labelled: ClassVar[bool] = True
    """Whether its labels are true; without, agreement with the original network's counts."""
    batch: int = 1

    def spec(self) -> DataSpec:
        """Return the shape of the problem."""
        raise NotImplementedError

    def load(self, split: Split) -> Samples:
        """Return a split's samples. ``test`` serves evaluation only."""
        raise NotImplementedError

    def contents(self) -> Contents:
        """Return what was read, for a person to check: by default the labels are counted.

        A plan shows it; nothing rests on it.
        """
        classes = self.spec().classes
        train, test = (split_read(self.load(s).labels.tolist(), classes) for s in SPLITS)
        return Contents(classes, train, test)

    def correct(self, outputs: Array, labels: Labels) -> NDArray[np.bool_]:
        """Return which samples are right, ``(n,)``: top-1 unless a data set says otherwise."""
        hits: NDArray[np.bool_] = outputs.argmax(axis=1) == labels
        return hits


@dataclass(frozen=True, kw_only=True)
class Model(Technique):
    """A network architecture."""

    layer: ClassVar[str] = "model"
    form: ClassVar[Literal["torch", "onnx"]] = "torch"

    def stored_precision(self) -> Precision:
        """Return the type that the network comes in, e.g. of a quantized file."""
        return "float32"

    def build(self, dataset: Dataset) -> Network:
        """Return the network for a problem; same parameters, same architecture and weights."""
        raise NotImplementedError

    def weights(self, dataset: Dataset) -> Path | None:
        """Return a file of trained weights (safetensors, or a state dict) or None: random."""
        return None

    def untrained(self, dataset: Dataset) -> bool:
        """Return whether the weights are surely random, so that accuracy would say nothing."""
        return False


@dataclass(frozen=True, kw_only=True)
class Optimization(Technique):
    """A change to a network that trades accuracy for size or time."""

    layer: ClassVar[str] = "optimization"
    precision: ClassVar[Precision | None] = None
    """The precision this technique asks of the runtime; None: it leaves precision alone."""
    sparse: ClassVar[bool] = False
    """Whether it leaves zeros in the weights that a sparse format could skip."""
    data: ClassVar[Literal["none", "train"]] = "none"
    """Whether ``apply`` gets the training split."""
    changes_nothing: ClassVar[bool] = False
    """Whether ``apply`` returns the network as it is: no step is then planned."""
    ways: ClassVar[tuple[Mapping[str, Json], ...]] = ({},)
    """Parameters of each way to its precision: what one runtime refuses another one may need."""

    @property
    def left_to_runtime(self) -> bool:
        """Whether the precision is made by the runtime itself, of a float32 network."""
        return False

    def before(self) -> Optimization | None:
        """Return the optimization whose outcome ``apply`` is given: a step that several share."""
        return None

    def apply(self, network: Network, data: Samples | None, folder: Path) -> Optimized:
        """Return the optimized network; the given one is not changed. ``folder``: for files."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """Which kernel computes an operator: a primitive, and the storage of its weights.

    ``csr`` weights are used where at least ``threshold`` of them are zeros.
    """

    primitive: str
    weights: Literal["dense", "csr"] = "dense"
    threshold: float = 0.4


@dataclass(frozen=True, kw_only=True)
class Algorithm(Technique):
    """Which kernel computes an operator, in which data format."""

    layer: ClassVar[str] = "algorithm"
    chooses: ClassVar[bool] = True
    """Whether it names kernels at all; False leaves every operator to the runtime."""

    @property
    def measures(self) -> bool:
        """Whether a build has to time kernels: nothing else then runs beside it."""
        return False

    @property
    def names(self) -> tuple[str, ...]:
        """The operators that it has a kernel for by name; a network without one is refused."""
        return ()

    def named(self, name: str, operator: Any, target: str) -> KernelChoice | str | None:
        """Return the kernel for the operator of a name; by default that of its shape alone."""
        return self.kernel(operator, target)

    def kernel(self, operator: Any, target: str) -> KernelChoice | str | None:
        """Return the kernel for an operator (``dlas.kernels.Conv2d``), None: not for it.

        A name alone is a primitive of ``dlas.kernels`` with dense weights (``best``: what is
        measured fastest); where it answers None
        the runtime's own kernel runs and is listed as such. A linear layer is asked for as the
        1x1 convolution of one row of pixels that it is; only the storage of its weights counts.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Software(Technique):
    """A runtime or compiler."""

    layer: ClassVar[str] = "software"
    form: ClassVar[Form] = "module"
    """The form of program that ``build`` takes."""
    preload: ClassVar[tuple[str, ...]] = ()
    """Modules that the server of this runtime imports before it forks children."""
    executes: ClassVar[Mapping[str, str]] = {}
    """Declared differences, asked precision -> executed precision."""
    quantizer: ClassVar[str] = ""
    """The distribution by which ``build`` quantizes a float32 network to int8 where that is left
    to it (``int8: {route: own}``); its version then enters the keys. Empty: it has no own way."""
    int8_passes: ClassVar[str] = ""
    """The distribution whose passes give the shared int8 model integer kernels in ``build``; its
    version then enters the keys. Empty: the runtime needs none."""
    cpu_decides: ClassVar[tuple[Precision, ...]] = ()
    """Types that it computes in on some CPUs only: a run looks with a small network first, and
    a stack whose type runs in another, undeclared one is then refused."""
    places: ClassVar[tuple[str, ...]] = ("python",)
    python: str = ""

    def needs(self) -> tuple[str, ...]:
        """Return the modules that it builds and runs with: torch's, too, of a torch module."""
        return self.requires if self.form == "onnx" else (*self.requires, *OF_NETWORKS)

    def built_by(self) -> Mapping[str, str]:
        """Return versions of what builds in an environment that a parameter beside python names.

        By the names of distributions. They are shown beside the versions of ``libraries``; what
        keys must know of them is for ``fingerprint`` to say.
        """
        return {}

    @property
    def bakes_threads(self) -> bool:
        """Whether the built artefact depends on the thread count."""
        return False

    @property
    def build_measures(self) -> bool:
        """Whether ``build`` measures: nothing else then runs beside it."""
        return False

    def untuned(self) -> Software:
        """Return what builds a network that leaves nothing to tune: this technique by default."""
        return self

    def expects(self, precision: Precision, flags: Collection[str]) -> str:
        """Return the type in which ``precision`` probably runs on a CPU with these flags.

        Asked only where nobody has looked yet; what is declared, by default.
        """
        return self.executes.get(precision, precision)

    def suspected(self, stack: Techniques, flags: Collection[str]) -> str:
        """Return what wrong outputs of a stack probably come from on a CPU with these flags.

        A sentence that also says what to do; empty where nothing is known.
        """
        return ""

    def environment(self, hardware: HardwareTechnique) -> dict[str, str]:
        """Return variables to set before the runtime's libraries load (isa, OpenMP)."""
        return {}

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Write what :meth:`load` needs into ``folder``; return facts about the build (JSON)."""
        raise NotImplementedError

    def load(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Return a session on the device with ``hardware.threads`` threads."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class HardwareTechnique(Technique):
    """A device with the settings it runs in.

    ``on`` is the label of the machine that it is in (``dlas workers --labels``); empty: the
    machine that runs the study. It is no part of a step's key: there the host's class stands.
    """

    layer: ClassVar[str] = "hardware"
    device: ClassVar[str] = "cpu"
    places: ClassVar[tuple[str, ...]] = ("on",)
    added: ClassVar[tuple[str, ...]] = ("on",)
    threads: int = 1
    isa: str = "native"
    on: Label = ""

    def describe(self) -> dict[str, Any]:
        """Return what the device is (JSON): name, features, memory."""
        raise NotImplementedError

    def missing(self) -> str | None:
        """Return why the device is not there, or None."""
        return None

    def target(self) -> Any:
        """Return what a build depends on (JSON): ``native`` resolved, threads left out."""
        return None


@dataclass(frozen=True, slots=True)
class Techniques:
    """A stack as live techniques: what ``why_not`` looks at.

    Rules ask for capabilities (``precision``, ``sparse``, ``model.form``), never for the names of
    other techniques.
    """

    dataset: Dataset
    model: Model
    optimization: tuple[Optimization, ...]
    algorithm: Algorithm
    software: Software
    hardware: HardwareTechnique
    probed: Ran | None = None
    """What the software was seen to run of this precision on this host; None: nobody looked."""

    @property
    def asked_precision(self) -> Precision | None:
        """The precision that an optimization asks for, None: each leaves it alone."""
        return next((o.precision for o in reversed(self.optimization) if o.precision), None)

    @property
    def precision(self) -> Precision:
        """The precision asked of the runtime: an optimization's, else the model's own."""
        return self.asked_precision or self.model.stored_precision()

    @property
    def left_to_runtime(self) -> bool:
        """Whether the runtime itself makes the precision, of a float32 network."""
        return any(o.left_to_runtime for o in self.optimization)

    @property
    def sparse(self) -> bool:
        """Whether an optimization leaves zeros that a sparse format could skip."""
        return any(o.sparse for o in self.optimization)

    def all(self) -> tuple[Technique, ...]:
        """Return every technique, from the top of the stack to the bottom."""
        above = (self.dataset, self.model, *self.optimization)
        return (*above, self.algorithm, self.software, self.hardware)
