"""The examples of docs/clients.md, run as they stand there."""
import json
import os
import pathlib
import shutil
import textwrap

import pytest

from harness import ROOT, node_env, run


def snippet(page, heading):
    """The first example below a heading."""
    text = (ROOT / "docs" / page).read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    lines = []
    for line in text.splitlines():
        if line.startswith("    ") or (lines and not line.strip()):
            lines.append(line)
        elif lines:
            break
    return textwrap.dedent("\n".join(lines))


@pytest.fixture(scope="module")
def folder(berth, workdir):
    path = workdir / "docs"
    path.mkdir()
    for name in ("admin.json", "ca.pem"):
        shutil.copy(berth.state / name, path)
    return path


@pytest.fixture
def one_group(berth, registry, group):
    berth.create(group, "docs", registry.ref("busybox:1"), ["/bin/sleep", "1000"])


def environment(**more):
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **more}


def test_python(folder, one_group):
    program = snippet("clients.md", "Python")
    done = run("/usr/bin/python3", "-B", "-c", program, cwd=folder, env=environment(REQUESTS_CA_BUNDLE="ca.pem"))
    assert "docs Succeeded" in done.stdout


def test_javascript(folder, one_group):
    program = snippet("clients.md", "JavaScript")
    modules = folder / "node_modules"
    modules.symlink_to(pathlib.Path(__file__).parent / "js" / "node_modules")
    (folder / "example.mjs").write_text(program)
    done = run("node", "example.mjs", cwd=folder, env=node_env("ca.pem"))
    assert "docs Succeeded" in done.stdout


def test_plain_https(folder, one_group):
    done = run("bash", "-euc", snippet("clients.md", "Plain HTTPS"), cwd=folder, env=environment())
    assert "docs" in [g["name"] for g in json.loads(done.stdout)["value"]]
