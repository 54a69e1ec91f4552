"""The one place that reads what the processor is, and the file that stands in for it."""

from pathlib import Path

import pytest

from dlas.kernels import KernelError
from dlas.kernels.ground import cpu

X86 = """processor\t: 0
model name\t: A CPU @ 2.50GHz
flags\t\t: fpu avx avx2

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
ARM = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd08
"""


def described(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> None:
    path.write_text(text)
    monkeypatch.setenv(cpu.CPUINFO, str(path))


def test_the_first_processor_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described(monkeypatch, tmp_path / "x86", X86)
    assert cpu.model() == "A CPU @ 2.50GHz"
    assert cpu.flags() == {"fpu", "avx", "avx2"}
    assert cpu.described_by() == str(tmp_path / "x86")


def test_a_cpu_without_a_name_is_called_by_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(monkeypatch, tmp_path / "arm", ARM)
    assert cpu.model() == "implementer 0x41 part 0xd08"
    assert "asimddp" in cpu.flags()


def test_another_file_is_another_cpu_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(monkeypatch, tmp_path / "x86", X86)
    assert "avx2" in cpu.flags()
    described(monkeypatch, tmp_path / "arm", ARM)
    assert "avx2" not in cpu.flags()


def test_a_file_that_is_not_there_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cpu.CPUINFO, str(tmp_path / "nothing"))
    with pytest.raises(KernelError, match="nothing cannot be read"):
        cpu.flags()


def test_nothing_else_reads_the_description() -> None:
    source = Path(cpu.__file__).parents[2]
    readers = [f for f in source.rglob("*.py") if "/proc/cpuinfo" in _code(f)]
    assert readers == [Path(cpu.__file__)]


def _code(file: Path) -> str:
    """Return a file without its comments and docstrings' mentions of the path in backquotes."""
    return file.read_text().replace("`/proc/cpuinfo`", "")
