import sys
import time

import pytest

from export.speed.board import PowerLog, cpu_features, machine, parse_tegrastats, peak_memory, total_power

ORIN_NX_JETPACK_5 = (
    "03-30-2023 14:10:05 RAM 3021/15452MB (lfb 2390x4MB) SWAP 0/7726MB (cached 0MB) "
    "CPU [3%@729,1%@729,0%@1420,1%@729,off,off,0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 12%@[305] VIC_FREQ 115 "
    "APE 174 CV0@-256C CPU@44.406C SOC2@42.156C SOC0@42.531C CV1@-256C GPU@42.375C tj@44.406C SOC1@43.031C CV2@-256C "
    "VDD_IN 3913mW/3870mW VDD_CPU_GPU_CV 435mW/435mW VDD_SOC 1148mW/1148mW"
)
AGX_ORIN_JETPACK_5 = (
    "05-12-2023 09:21:33 RAM 2563/30536MB (lfb 6258x4MB) SWAP 0/15268MB (cached 0MB) "
    "CPU [2%@729,0%@729,0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 99%@[1300,1300] VIC_FREQ 729 APE 174 CPU@48.5C "
    "Tboard@36C SOC2@44.593C Tdiode@36.75C GPU@-256C tj@48.5C VDD_GPU_SOC 2015mW/2015mW VDD_CPU_CV 403mW/403mW "
    "VIN_SYS_5V0 3026mW/3026mW NC 0mW/0mW VDDQ_VDD2_1V8AO 504mW/504mW NC 0mW/0mW"
)
ORIN_NANO_JETPACK_6 = (
    "11-25-2024 10:00:00 RAM 2108/7620MB (lfb 2x4MB) SWAP 0/3810MB (cached 0MB) "
    "CPU [1%@1510,0%@1510,0%@729,3%@729,0%@729,0%@729] GR3D_FREQ 0% cpu@45.281C soc2@44.093C soc0@44.5C gpu@45.125C "
    "tj@45.281C soc1@44.75C VDD_IN 3553mW/3553mW VDD_CPU_GPU_CV 474mW/474mW VDD_SOC 1067mW/1067mW"
)
XAVIER_JETPACK_4 = (
    "RAM 4181/15692MB (lfb 2056x4MB) SWAP 0/7846MB (cached 0MB) CPU [10%@1190,5%@1190,off,off] EMC_FREQ 1%@2133 "
    "GR3D_FREQ 7%@318 APE 150 MTS fg 0% bg 0% AO@31.5C GPU@32.5C Tdiode@33C PMIC@100C CPU@32.5C thermal@32.3C "
    "GPU 304/300 CPU 1216/1200 SOC 1520/1500 CV 0/0 VDDRQ 152/152 SYS5V 1400/1400"
)


@pytest.mark.parametrize(
    ("line", "ram", "mhz", "gpu", "hottest", "watts"),
    [
        (ORIN_NX_JETPACK_5, 3021, (729, 729, 1420, 729, 729, 729), (12, 305), ("cpu", 44.406), 3.913),
        (AGX_ORIN_JETPACK_5, 2563, (729,) * 4, (99, 1300), ("tj", 48.5), 2.015 + 0.403 + 3.026),
        (ORIN_NANO_JETPACK_6, 2108, (1510, 1510, 729, 729, 729, 729), (0, None), ("tj", 45.281), 3.553),
        (XAVIER_JETPACK_4, 4181, (1190, 1190), (7, 318), ("pmic", 100.0), 4.592),
    ],
)
def test_lines_of_tegrastats(line, ram, mhz, gpu, hottest, watts):
    sample = parse_tegrastats(line)
    assert sample.ram_mb == ram
    assert sample.cpu_mhz == mhz
    assert len(sample.cpu_load) == len(mhz)
    assert (sample.gpu_load, sample.gpu_mhz) == gpu
    assert sample.temperature[hottest[0]] == hottest[1] == max(sample.temperature.values())
    assert min(sample.temperature.values()) > 0  # sensors that are off are not sensors at -256 °C
    assert total_power(sample) == pytest.approx(watts)
    assert "SWAP" not in sample.power_mw


@pytest.mark.parametrize("line", ["", "WARNING: run as root for more", "RAM"])
def test_what_is_no_statistic(line):
    assert parse_tegrastats(line) is None


def test_no_rails_no_power():
    sample = parse_tegrastats("RAM 100/200MB (lfb 1x4MB) SWAP 0/100MB CPU [1%@700] GR3D_FREQ 0%")
    assert total_power(sample) is None


def test_power_is_that_of_the_turns():
    """A stand-in for tegrastats that prints 2 W ten times, then 6 W."""
    code = (
        "import sys, time\n"
        "for k in range(200):\n"
        "    w = 2000 if k < 10 else 6000\n"
        "    print(f'RAM 1/2MB CPU [1%@{700 + w}] GR3D_FREQ 5%@[900] tj@{40 + k / 10}C '\n"
        "          f'VDD_IN {w}mW/{w}mW', flush=True)\n"
        "    time.sleep(0.02)\n"
    )
    with PowerLog((sys.executable, "-c", code)) as log:
        deadline = time.monotonic() + 20
        while len(log.samples) < 30 and time.monotonic() < deadline:
            time.sleep(0.02)
    change = log.samples[10][0]
    before = log.between([(0, change - 1e-6)])
    after = log.between([(change, change + 60)])
    assert before["watts"] == pytest.approx(2)
    assert after["watts"] == pytest.approx(6)
    assert after["cpu_mhz"] == 6700
    assert after["gpu_mhz"] == 900
    assert after["max_celsius"] > before["max_celsius"] >= 40
    assert log.between([(0, 1e-9)]) is None


def test_without_tegrastats_nothing_is_claimed():
    with PowerLog(("no-such-program",)) as log:
        pass
    assert log.between([(0, time.monotonic())]) is None


ORIN = "processor\t: 0\nFeatures\t: fp asimd fphp asimdhp cpuid asimddp flagm\nCPU part\t: 0xd42\n"
RASPBERRY_PI_4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
SAPPHIRE_RAPIDS = (
    "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f avx512_vnni avx_vnni amx_tile amx_int8 amx_bf16\n"
)


@pytest.mark.parametrize(
    ("cpuinfo", "has", "lacks"),
    [
        (ORIN, "dot product, fp16", "int8 matrix multiply, bfloat16, SVE, SVE2, SME"),
        (RASPBERRY_PI_4, "none", "dot product, fp16, int8 matrix multiply, bfloat16, SVE, SVE2, SME"),
        (
            SAPPHIRE_RAPIDS,
            "AVX2, AVX-512, AVX-VNNI, AVX-512 VNNI, AMX int8, AMX bfloat16",
            "AVX-512 bfloat16, AVX-512 fp16",
        ),
    ],
)
def test_what_a_processor_multiplies_faster_with(cpuinfo, has, lacks):
    assert cpu_features(cpuinfo) == (has, lacks)
    assert cpu_features("model name: none") is None


def test_this_machine():
    facts = machine()
    assert {"cpu", "cpu_has", "cpu_lacks", "cores", "memory_gb", "system", "kernel", "python"} <= set(facts)
    assert all(value is not None for value in facts.values())
    before = peak_memory()
    block = bytearray(64 * 1024**2)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_memory() >= before
    assert peak_memory() > 64
