"""Container groups written as Azure's documentation writes them: created, used, exported and created again with az."""
import json
import pathlib
import socket
import time

import pytest
import yaml

from git_server import GitServer
from harness import Berth, ROOT, busybox_image, eventually, fetch, run, view
from smb_server import SmbServer

SAMPLES = ROOT / "samples" / "aci"
IMAGES = {
    "mcr.microsoft.com/azuredocs/aci-helloworld:latest": "mkdir -p /www; echo \"$GREETING hello\" > /www/index.html; "
                                                         "(while true; do echo pong | nc -l -p 8080; done) & exec httpd -f -p 80 -h /www",
    "mcr.microsoft.com/azuredocs/aci-tutorial-sidecar": "while true; do wget -q -O - http://localhost/; sleep 1; done",
    "mcr.microsoft.com/azuredocs/aci-hellofiles": "ls /aci/logs /mnt/empty /mnt/secrets /mnt/repo1; exec httpd -f -p 80 -h /mnt/repo1/my-repo",
    "busybox:1.28": "exec sh",
}


@pytest.fixture(scope="module")
def git(workdir):
    with GitServer(workdir / "git-yaml") as server:
        server.repo("Azure-Samples/aci-helloworld").commit({"index.html": b"from the repository\n", "app/README": b"x\n"})
        yield server


@pytest.fixture(scope="module")
def smb(workdir):
    sample = yaml.safe_load((SAMPLES / "volumes.yaml").read_text())
    share = sample["properties"]["volumes"][0]["azureFile"]
    with SmbServer(workdir / "smb-yaml", {share["storageAccountName"]: [share["shareName"]]},
                   keys={share["storageAccountName"]: share["storageAccountKey"]}) as server:
        yield server


@pytest.fixture(scope="module")
def eastus(workdir, git, smb):
    """A Berth in the region that the samples name, with their images imported."""
    berth = Berth(workdir / "e", settings={"region": "eastus", "azure_files_server": smb.azure_files, "repository_ca": git.ca,
                                           "repository_loopback": "true"})
    berth.up()
    try:
        for reference, script in IMAGES.items():
            name = reference.rsplit("/", 1)[-1].split(":")[0]
            archive = busybox_image(workdir, "sample-" + name, cmd=["/bin/sh", "-c", script])
            berth.berth("image", "import", archive, "--name", reference)
        yield berth
    finally:
        berth.purge()


@pytest.fixture(scope="module")
def az(eastus, workdir):
    env = eastus.az_env(workdir / "home-yaml")

    def call(*argv, check=True, parse=True):
        result = run("az", *argv, check=check, env=env, timeout=180)
        return json.loads(result.stdout) if check and parse and result.stdout.strip() else result
    call("group", "create", "-n", "demo", "-l", "eastus")
    yield call
    call("group", "delete", "-n", "demo", "-y")


def lower(value):
    """Names of members, and what Azure's enums compare, without regard to case."""
    if isinstance(value, dict):
        return {k.lower(): lower(v) for k, v in value.items()}
    if isinstance(value, list):
        return [lower(v) for v in value]
    return value.lower() if value in ("tcp", "TCP", "udp", "UDP") else value


SECRETS = ("securevalue", "storageaccountkey")


def missing(asked, answered, path=""):
    """What was asked for and didn't come back equal. Secrets must not come back."""
    if isinstance(asked, dict):
        found = []
        for key, value in asked.items():
            if key in SECRETS:
                found += [f"{path}.{key} is shown"] if key in answered else []
            elif key == "secret":
                found += [] if answered.get(key) == {} else [f"{path}.{key} is {answered.get(key)}"]
            elif key not in answered:
                found += [] if value in (None, [], {}) else [f"{path}.{key} is missing"]
            else:
                found += missing(value, answered[key], f"{path}.{key}")
        return found
    if isinstance(asked, list):
        if len(asked) != len(answered):
            return [f"{path}: {len(answered)} elements"]
        return [f for i, (a, b) in enumerate(zip(asked, answered)) for f in missing(a, b, f"{path}[{i}]")]
    return [] if asked == answered or (asked is None and not answered) else [f"{path}: {answered!r} instead of {asked!r}"]


def write(workdir, git, name):
    """The sample as it is, but for the git server's address: there is no internet here."""
    text = (SAMPLES / f"{name}.yaml").read_text().replace("https://github.com/", git.url())
    path = workdir / f"{name}.yaml"
    path.write_text(text)
    return path, yaml.safe_load(text)


def deploy(az, eastus, workdir, git, name):
    path, asked = write(workdir, git, name)
    az("container", "create", "-g", "demo", "-f", path)
    group = eastus.show("demo", name)
    assert group["properties"]["provisioningState"] == "Succeeded", group
    exported = workdir / f"{name}-exported.yaml"
    az("container", "export", "-g", "demo", "-n", name, "-f", exported, parse=False)
    answered = yaml.safe_load(exported.read_text())
    asked.pop("apiVersion")
    assert missing(lower(asked), lower(answered)) == []
    # What was exported is the same wish again: nothing restarts.
    az("container", "create", "-g", "demo", "-f", exported)
    again = eastus.show("demo", name)
    for before, after in zip(group["properties"]["containers"], again["properties"]["containers"]):
        started = before["properties"]["instanceView"]["currentState"].get("startTime")
        assert after["properties"]["instanceView"]["currentState"].get("startTime") == started
    assert again["properties"].get("ipAddress", {}).get("ip") == group["properties"].get("ipAddress", {}).get("ip")
    return again


def log(eastus, group, container):
    return eastus.logs("demo", group, container)


def test_public_address(az, eastus, workdir, git):
    group = deploy(az, eastus, workdir, git, "public-address")
    address = group["properties"]["ipAddress"]
    assert address["fqdn"] == "aci-public-address.eastus.berth.internal"
    assert fetch(address["ip"]) == "Welcome to Azure Container Instances! hello\n"
    assert "not-to-be-seen" not in json.dumps(group)
    az("container", "delete", "-g", "demo", "-n", "public-address", "-y")


def test_side_car(az, eastus, workdir, git):
    group = deploy(az, eastus, workdir, git, "side-car")
    ip = group["properties"]["ipAddress"]["ip"]
    assert "hello" in fetch(ip)

    def pong():
        try:
            with socket.create_connection((ip, 8080), timeout=2) as s:
                return s.recv(16)
        except OSError:
            return b""
    assert eventually(pong) == b"pong\n"
    assert eventually(lambda: "hello" in log(eastus, "side-car", "aci-tutorial-sidecar"))
    az("container", "delete", "-g", "demo", "-n", "side-car", "-y")


def test_init_container(az, eastus, workdir, git):
    group = deploy(az, eastus, workdir, git, "init-container")
    inits = group["properties"]["initContainers"]
    assert [i["name"] for i in inits] == ["init-myservice", "init-mydb"]
    for init in inits:
        state = init["properties"]["instanceView"]["currentState"]
        assert (state["state"], state["exitCode"], state["detailStatus"]) == ("Terminated", 0, "Completed")
    assert eventually(lambda: "The app is running!" in log(eastus, "init-container", "myapp-container"))
    assert log(eastus, "init-container", "myapp-container").startswith("first\nsecond\n")
    assert log(eastus, "init-container", "init-mydb") == "init two is done\n"
    az("container", "delete", "-g", "demo", "-n", "init-container", "-y")


def test_probes(az, eastus, workdir, git):
    path, _ = write(workdir, git, "probes")
    az("container", "create", "-g", "demo", "-f", path)
    ip = eastus.show("demo", "probes")["properties"]["ipAddress"]["ip"]
    # Reachable only once it says that it is ready; fetch() would wait for a listener, this asks just once.
    assert eventually(lambda: _once(ip)) == "up\n"
    group = deploy(az, eastus, workdir, git, "probes")
    assert view(group)["restartCount"] == 0
    az("container", "delete", "-g", "demo", "-n", "probes", "-y")


def _once(ip):
    try:
        return fetch(ip, timeout=1)
    except OSError:
        return None


def test_every_kind_of_volume(az, eastus, workdir, git, smb):
    (smb.share("acishare") / "from-the-share").write_text("x")
    group = deploy(az, eastus, workdir, git, "volumes")
    assert fetch(group["properties"]["ipAddress"]["ip"]) == "from the repository\n"
    listed = eventually(lambda: (lambda text: text if "/mnt/repo1:" in text else None)(log(eastus, "volumes", "hellofiles")))
    for name in ("from-the-share", "mysecret1", "mysecret2", "my-repo"):
        assert name in listed
    az("container", "delete", "-g", "demo", "-n", "volumes", "-y")


def test_every_option_of_create(az, eastus, workdir, git, smb):
    """The options of `az container create` that name what a group can be, all in one group."""
    account, key = next(iter(smb.keys.items()))
    (smb.share("acishare") / "seen-by-az").write_text("x")
    script = ("ls /aci/share /aci/secrets /aci/repo /aci/repo/code; cat /aci/secrets/first; echo; echo $PLAIN-$SECURE; "
              "exec httpd -f -p 80 -h /aci/repo/code")
    made = az("container", "create", "-g", "demo", "-n", "options", "--image", "busybox:1.28", "--os-type", "Linux", "--cpu", "0.5",
              "--memory", "0.5", "--restart-policy", "OnFailure", "--ip-address", "Public", "--ports", "80", "81",
              "--protocol", "TCP", "--dns-name-label", "every-option", "--command-line", f"/bin/sh -c '{script}'",
              "--environment-variables", "PLAIN=one two", "--secure-environment-variables", "SECURE=canary-secure",
              "--secrets", "first=canary-first", "second=2", "--secrets-mount-path", "/aci/secrets",
              "--gitrepo-url", git.url("Azure-Samples/aci-helloworld"), "--gitrepo-dir", "code", "--gitrepo-mount-path", "/aci/repo",
              "--azure-file-volume-account-name", account, "--azure-file-volume-account-key", key,
              "--azure-file-volume-share-name", "acishare", "--azure-file-volume-mount-path", "/aci/share")
    assert made["provisioningState"] == "Succeeded"
    assert made["restartPolicy"] == "OnFailure"
    assert [v["name"] for v in made["volumes"]] == ["azurefile", "secrets", "gitrepo"]
    assert fetch(made["ipAddress"]["ip"]) == "from the repository\n"
    text = eventually(lambda: (lambda t: t if "one two-" in t else None)(
        az("container", "logs", "-g", "demo", "-n", "options", parse=False).stdout))
    for words in ("seen-by-az", "first\nsecond\n", "index.html", "canary-first\n", "one two-canary-secure"):
        assert words in text
    shown = az("container", "show", "-g", "demo", "-n", "options", parse=False).stdout
    for secret in ("canary-secure", "canary-first", key):
        assert secret not in shown
    az("container", "delete", "-g", "demo", "-n", "options", "-y")


def test_attach_and_follow_end_with_the_group(az, eastus):
    """az's own attach and logs --follow poll; both end when a group that ran once has ended."""
    az("container", "create", "-g", "demo", "-n", "once", "--image", "busybox:1.28", "--os-type", "Linux", "--cpu", "0.5",
       "--memory", "0.5", "--restart-policy", "Never", "--command-line", "/bin/sh -c 'for i in 1 2 3; do echo line $i; sleep 1; done'")
    attached = az("container", "attach", "-g", "demo", "-n", "once", parse=False).stdout
    assert "line 3" in attached and "Started container" in attached
    followed = az("container", "logs", "-g", "demo", "-n", "once", "--follow", parse=False).stdout
    assert "line 1\nline 2\nline 3\n" in followed  # az prints the log anew at each poll when it has no terminal
    assert az("container", "show", "-g", "demo", "-n", "once")["instanceView"]["state"] == "Succeeded"
    az("container", "delete", "-g", "demo", "-n", "once", "-y")


def test_a_share_that_cannot_be_mounted_says_why(az, eastus, smb):
    account = next(iter(smb.keys))
    az("container", "create", "-g", "demo", "-n", "wrong-key", "--image", "busybox:1.28", "--os-type", "Linux", "--cpu", "0.5",
       "--memory", "0.5", "--command-line", "sleep 1000", "--azure-file-volume-account-name", account,
       "--azure-file-volume-account-key", "d3Jvbmc=", "--azure-file-volume-share-name", "acishare",
       "--azure-file-volume-mount-path", "/x", check=False)

    def event():
        group = eastus.show("demo", "wrong-key")
        events = view(group)["events"] if view(group) else []
        return [e for e in events if e["name"] == "FailedMountAzureFileVolume"]
    assert "denied" in eventually(event, timeout=30)[0]["message"]
    az("container", "delete", "-g", "demo", "-n", "wrong-key", "-y")
