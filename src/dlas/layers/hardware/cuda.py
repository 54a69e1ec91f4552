"""An NVIDIA GPU, driven by PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.core.protocols import HardwareTechnique


@dataclass(frozen=True, kw_only=True)
class Cuda(HardwareTechnique):
    """An NVIDIA GPU: number ``index`` of this machine. ``threads`` are those of the host.

    What is measured includes the copies to the device and back.
    """

    name: ClassVar[str] = "cuda"
    device: ClassVar[str] = "cuda"
    index: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(ge=1)] = 1
    isa: Literal["native"] = "native"

    def describe(self) -> dict[str, Any]:
        """Return the GPU's name, compute capability, memory in bytes and driver.

        Raises:
            RuntimeError: there is no such GPU.
        """
        reason = self.missing()
        if reason:
            raise RuntimeError(reason)
        found = _gpu(self.index)
        return found if isinstance(found, dict) else {"device": "cuda", "index": self.index}

    def missing(self) -> str | None:
        """Return why there is no such GPU for PyTorch, without loading PyTorch."""
        if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
            return "no NVIDIA GPU: /dev holds no nvidia device; a GPU and its driver are needed"
        found = _gpu(self.index)
        if isinstance(found, str):
            return found
        try:
            built = version("torch")
        except PackageNotFoundError:
            return None  # the software that needs torch says that it is absent
        if "+cpu" in built:
            return f"the installed torch {built} was built without CUDA; install a CUDA build"
        return None

    def target(self) -> Any:
        """Return the GPU's name and compute capability, None where it cannot be read."""
        found = _gpu(self.index)
        if isinstance(found, dict):
            return {"device": "cuda", "name": found["name"], "compute": found["compute"]}
        return None


def _gpu(index: int) -> dict[str, Any] | str | None:
    """What NVML says of a GPU, a reason where it says there is none, None without its module."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"no NVIDIA GPU: the driver's management library says: {error}"
    try:
        count = int(pynvml.nvmlDeviceGetCount())
        if index >= count:
            return f"there is no GPU {index}: this machine has {count}, numbered from 0"
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return {
            "device": "cuda",
            "index": index,
            "name": str(pynvml.nvmlDeviceGetName(handle)),
            "compute": f"{major}.{minor}",
            "memory_bytes": int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            "driver": str(pynvml.nvmlSystemGetDriverVersion()),
        }
    finally:
        pynvml.nvmlShutdown()
