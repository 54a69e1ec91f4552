"""Runs the tests marked `host` as if on a CPU that has less than this one.

    python tests/hosts/masks.py avx2        no AVX-512 and nothing that came after it
    python tests/hosts/masks.py avx512      AVX-512 without VNNI, bf16, fp16 and AMX

Features can only be taken away. dlas itself and TVM's code generator go by a description without
the hidden flags (`DLAS_CPUINFO`); oneDNN (PyTorch's, and OpenVINO's kernels), ATen, Inductor and
MKL by variables of their own. ONNX Runtime has none: it is held back by a library that answers
CPUID, where the CPU lets that instruction fault, and else runs as it is, which is said.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

MASK = "DLAS_TEST_MASK"
"""The environment's name for the mask that tests run under."""
_LATER = (
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "avx512ifma", "avx512vbmi", "avx512_vbmi2"),
    *("avx512_bitalg", "avx512_vpopcntdq", "avx512_vp2intersect", "avx512_4vnniw"),
    *("avx512_4fmaps", "avx_vnni", "avx_vnni_int8", "avx_ne_convert", "avx_ifma"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "amx_complex"),
)
HIDDEN: Mapping[str, tuple[str, ...]] = {
    "avx2": (
        *_LATER,
        *("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx10"),
        *("gfni", "vaes", "vpclmulqdq"),
    ),
    "avx512": _LATER,
}
"""The flags that each mask takes away."""
NEEDS = {"avx2": "avx2", "avx512": "avx512vl"}
"""What a CPU must have for the mask to say anything."""
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "avx512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
}


def cpuinfo(hide: Collection[str] = (), add: Collection[str] = ()) -> str:
    """Return this machine's `/proc/cpuinfo` with flags taken away and added."""
    lines = []
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, colon, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            kept = [flag for flag in value.split() if flag not in set(hide)]
            line = f"{key}{colon} {' '.join([*kept, *sorted(set(add) - set(kept))])}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def flags() -> set[str]:
    """Return this machine's own flags."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def environment(mask: str, folder: Path) -> dict[str, str]:
    """Return the variables that take a mask's features away; files go into the folder."""
    described = folder / "cpuinfo"
    described.write_text(cpuinfo(HIDDEN[mask]), encoding="utf-8")
    found = {MASK: mask, "DLAS_CPUINFO": str(described), **_SETTINGS[mask]}
    found["DLAS_PROBE_DIR"] = str(folder / "probes")
    if "cpuid_fault" not in flags():
        print("onnxruntime is not masked: this CPU has no flag cpuid_fault")
        return found
    library = folder / "cpuid_mask.so"
    source = Path(__file__).with_name("cpuid_mask.c")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return found | {"CPUID_MASK": mask, "LD_PRELOAD": str(library)}


def main(mask: str, *arguments: str) -> int:
    """Run the tests under a mask; 0 where this CPU does not even have what the mask leaves."""
    if mask not in HIDDEN:
        print(f"no mask {mask!r}: known are {', '.join(HIDDEN)}")
        return 2
    if NEEDS[mask] not in flags():
        print(f"mask {mask} skipped: this CPU has no {NEEDS[mask]}")
        return 0
    with tempfile.TemporaryDirectory(prefix="dlas-mask-") as folder:
        settings = environment(mask, Path(folder))
        print(f"mask {mask}: {', '.join(f'{k}={v}' for k, v in settings.items())}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-m", "host", *arguments]
        return subprocess.run(command, env={**os.environ, **settings}).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
