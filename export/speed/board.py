"""What a timing depends on beside the program: processor, board, power mode, clocks, temperature, power, memory."""

import os
import platform
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from keras_realmnet.screening.engines.base import available_threads

__all__ = ["PowerLog", "TegraSample", "cpu_features", "machine", "parse_tegrastats", "peak_memory", "total_power"]

# What engines multiply faster with, by the name /proc/cpuinfo has for it: x86, then Arm.
CPU_FEATURES = {
    "x86": {
        "avx2": "AVX2",
        "avx512f": "AVX-512",
        "avx_vnni": "AVX-VNNI",
        "avx512_vnni": "AVX-512 VNNI",
        "avx512_bf16": "AVX-512 bfloat16",
        "avx512_fp16": "AVX-512 fp16",
        "amx_int8": "AMX int8",
        "amx_bf16": "AMX bfloat16",
    },
    "arm": {
        "asimddp": "dot product",
        "asimdhp": "fp16",
        "i8mm": "int8 matrix multiply",
        "bf16": "bfloat16",
        "sve": "SVE",
        "sve2": "SVE2",
        "sme": "SME",
    },
}

# Rails that hold what the whole module takes. Boards without one have several supplies that add up; VDDQ_VDD2_1V8AO of
# the AGX Orin hangs behind VIN_SYS_5V0 and would count twice, NC is not connected.
INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
PARTS_OF_OTHERS = ("VDDQ_VDD2_1V8AO", "NC")


@dataclass(frozen=True)
class TegraSample:
    """One line of tegrastats.

    `ram_mb`: in use; `cpu_load` (%) and `cpu_mhz` of the cores that are on; `gpu_load` (%) and `gpu_mhz`, `None` where
    the line does not tell; `temperature`: °C by sensor, in lower case; `power_mw`: by rail, at this moment.
    """

    ram_mb: int
    cpu_load: tuple[int, ...]
    cpu_mhz: tuple[int, ...]
    gpu_load: int | None
    gpu_mhz: int | None
    temperature: dict[str, float]
    power_mw: dict[str, int]


def parse_tegrastats(line: str) -> TegraSample | None:
    """Reads a line as JetPack 4, 5 and 6 write it; `None` for one without a RAM figure (a notice).

    The statistics are described in NVIDIA's Jetson Linux Developer Guide, "tegrastats Utility". Sensors that are off
    (-256C) are left out.
    """
    ram = re.search(r"\bRAM (\d+)/\d+MB", line)
    if ram is None:
        return None
    cores = re.search(r"\bCPU \[([^\]]*)\]", line)
    cpu = [(int(load), int(mhz)) for load, mhz in re.findall(r"(\d+)%@(\d+)", cores[1] if cores else "")]
    gpu = re.search(r"\bGR3D_FREQ (\d+)%(?:@\[?(\d+))?", line)
    temperature = {name.lower(): float(value) for name, value in re.findall(r"(\w+)@(-?\d+(?:\.\d+)?)C\b", line)}
    rails = re.findall(r"\b([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?(?=\s|$)", line[ram.end() :])
    return TegraSample(
        ram_mb=int(ram[1]),
        cpu_load=tuple(load for load, _ in cpu),
        cpu_mhz=tuple(mhz for _, mhz in cpu),
        gpu_load=int(gpu[1]) if gpu else None,
        gpu_mhz=int(gpu[2]) if gpu and gpu[2] else None,
        temperature={name: value for name, value in temperature.items() if value > -200},
        power_mw={name: int(value) for name, value in rails if name != "SWAP"},
    )


def total_power(sample: TegraSample) -> float | None:
    """Watts of the whole module: its input rail, else the sum of its supplies; `None` where no rail is told."""
    for rail in INPUT_RAILS:
        if rail in sample.power_mw:
            return sample.power_mw[rail] / 1000
    parts = [value for rail, value in sample.power_mw.items() if rail not in PARTS_OF_OTHERS]
    return sum(parts) / 1000 if parts else None


@dataclass
class PowerLog:
    """tegrastats in the background, where there is one: `with PowerLog() as log: …; log.between(start, end)`.

    Times are those of `time.monotonic()`. Without tegrastats nothing is logged and `between` gives `None`.
    """

    command: Sequence[str] = ("tegrastats", "--interval", "100")
    samples: list[tuple[float, TegraSample]] = field(default_factory=list)

    def __enter__(self) -> "PowerLog":
        self._process = None
        if shutil.which(self.command[0]):
            self._process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._reader.join()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            sample = parse_tegrastats(line)
            if sample is not None:
                self.samples.append((time.monotonic(), sample))

    def between(self, spans: Sequence[tuple[float, float]]) -> dict[str, float] | None:
        """Means over the samples of these spans: "watts", "cpu_mhz", "gpu_mhz", "gpu_load"; "max_celsius" over all."""
        chosen = [s for at, s in self.samples if any(start <= at <= end for start, end in spans)]
        if not chosen:
            return None
        series: dict[str, list[Any]] = {
            "watts": [total_power(s) for s in chosen],
            "cpu_mhz": [mean(s.cpu_mhz) for s in chosen if s.cpu_mhz],
            "gpu_mhz": [s.gpu_mhz for s in chosen],
            "gpu_load": [s.gpu_load for s in chosen],
        }
        known = {name: [v for v in values if v is not None] for name, values in series.items()}
        found = {name: float(mean(values)) for name, values in known.items() if values}
        hottest = [max(s.temperature.values()) for s in chosen if s.temperature]
        return found | ({"max_celsius": max(hottest)} if hottest else {})


def peak_memory() -> float:
    """MB of this process at its largest so far (VmHWM, which `exec` sets back)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def cpu_features(cpuinfo: str) -> tuple[str, str] | None:
    """What of `CPU_FEATURES` a processor has and what it lacks, in words, from the text of /proc/cpuinfo.

    What a processor has without Linux saying so (an old kernel) counts as lacking: engines ask Linux, too.
    """
    found = re.search(r"^(flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if found is None:
        return None
    names, flags = CPU_FEATURES["x86" if found[1] == "flags" else "arm"], found[2].split()
    has, lacks = ([text for name, text in names.items() if (name in flags) == there] for there in (True, False))
    return ", ".join(has) or "none", ", ".join(lacks) or "none"


def machine() -> dict[str, Any]:
    """What a reader must know of this machine; a Jetson also tells its release, power mode and clocks."""
    cpu = re.search(r"(?:model name|Model)\s*:\s*(.+)", _text("/proc/cpuinfo"))
    features = cpu_features(_text("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s+(\d+) kB", _text("/proc/meminfo"))
    facts = {
        "board": _text("/proc/device-tree/model") or None,
        "cpu": cpu[1].strip() if cpu else platform.processor() or platform.machine(),
        "cpu_has": features and features[0],
        "cpu_lacks": features and features[1],
        "cores": available_threads(),
        "memory_gb": round(int(memory[1]) / 1024**2, 1) if memory else None,
        "system": _system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        "huge_pages": _text("/sys/kernel/mm/transparent_hugepage/enabled") or None,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "jetson_linux": _text("/etc/nv_tegra_release").partition(", GCID")[0].lstrip("# ") or None,
        "power_mode": _output("nvpmodel", "-q"),
        "jetson_clocks": _output("jetson_clocks", "--show"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _system() -> str:
    found = re.search(r'PRETTY_NAME="([^"]+)"', _text("/etc/os-release"))
    return found[1] if found else platform.platform()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip().strip("\x00")
    except OSError:
        return ""


def _output(*command: str) -> str | None:
    """What a command prints, in one line; `None` where there is none or it needs other rights."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return " | ".join(done.stdout.split("\n")).strip(" |") or None if done.returncode == 0 else None
