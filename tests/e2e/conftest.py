"""
End to end: the real az, SDKs, docker-registry, crun and conmon against a Berth of the tests' own.

The whole run has a network namespace of its own with nothing but loopback, so that no test can reach anything else, and
what a failing test leaves there goes with it. Every process that is started is ended by its pid.
"""
import ctypes
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from harness import BUILD, Berth, Registry, ROOT, busybox_image

CLONE_NEWNET = 0x40000000


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests need root", returncode=1)
    modules = pathlib.Path(__file__).parent / "js" / "node_modules"
    if not modules.exists():
        # The only thing that needs the network, and so it comes first.
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=modules.parent, check=True)
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        pytest.exit("no network namespace could be made", returncode=1)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@pytest.fixture(scope="session")
def workdir():
    path = tempfile.mkdtemp(prefix="be2e-", dir="/tmp")
    os.chmod(path, 0o755)
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def images(workdir):
    """OCI archives: hello (the sample) and busybox."""
    hello = workdir / "hello.tar"
    subprocess.run(["/usr/bin/python3", ROOT / "tools/oci_image.py", hello, "--ref", "hello:1", "--file",
                    f"/bin/hello={BUILD}/samples/hello/hello", "--entrypoint", "/bin/hello"], check=True)
    return {"hello": hello, "busybox": busybox_image(workdir)}


@pytest.fixture(scope="session")
def registry(workdir, images):
    """A registry on loopback, plain HTTP, for anyone."""
    with Registry(workdir / "registry") as registry:
        registry.push(images["hello"], "hello:1")
        registry.push(images["busybox"], "busybox:1")
        yield registry


@pytest.fixture(scope="session")
def private_registry(workdir, images):
    """A registry with TLS and htpasswd."""
    with Registry(workdir / "private", user=("alice", "s3cret-pass")) as registry:
        registry.push(images["busybox"], "busybox:1")
        yield registry


@pytest.fixture(scope="session")
def berth(workdir, private_registry):
    berth = Berth(workdir / "b", settings={"registry_ca": private_registry.ca})
    berth.up()
    yield berth
    berth.purge()


@pytest.fixture
def group(berth):
    """A resource group of the test's own, emptied afterwards."""
    name = berth.new_name("rg")
    berth.put(f"/resourcegroups/{name}", {"location": "local"}, version="2021-04-01")
    yield name
    for item in berth.get(f"/resourceGroups/{name}/providers/Microsoft.ContainerInstance/containerGroups")["value"]:
        berth.call("DELETE", item["id"])
    berth.call("DELETE", berth.sub(f"/resourcegroups/{name}"), version="2021-04-01")
