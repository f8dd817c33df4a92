"""What a new user does, with the real az."""
import json
import time

import pytest

from harness import eventually, fetch, run


@pytest.fixture(scope="module")
def az(berth, workdir):
    env = berth.az_env(workdir / "home")

    def call(*argv, check=True, as_json=True):
        result = run("az", *argv, check=check, env=env, timeout=180)
        return json.loads(result.stdout) if check and as_json and result.stdout.strip() else result
    yield call


@pytest.fixture(scope="module")
def demo(az):
    az("group", "create", "-n", "demo", "-l", "local")
    yield "demo"
    az("group", "delete", "-n", "demo", "-y")
    assert "false" in az("group", "exists", "-n", "demo", as_json=False).stdout


def test_the_sign_in_shows_the_subscription(az, berth):
    account = az("account", "show")
    assert account["id"] == berth.admin["subscriptionId"]
    assert account["tenantId"] == berth.admin["tenantId"]


def test_resource_groups(az, demo):
    assert az("group", "show", "-n", "DEMO")["properties"]["provisioningState"] == "Succeeded"
    assert "demo" in [g["name"] for g in az("group", "list")]
    assert az("group", "update", "-n", "demo", "--tags", "a=b")["tags"] == {"a": "b"}
    assert "true" in az("group", "exists", "-n", "demo", as_json=False).stdout
    missing = az("group", "show", "-n", "nothing", check=False)
    assert missing.returncode != 0 and "ResourceGroupNotFound" in missing.stderr


def test_providers_and_locations(az):
    provider = az("provider", "show", "-n", "Microsoft.ContainerInstance")
    assert provider["registrationState"] == "Registered"
    assert "containerGroups" in [t["resourceType"] for t in provider["resourceTypes"]]
    assert "local" in [location["name"] for location in az("account", "list-locations")]


def test_a_group_from_create_to_delete(az, berth, registry, demo):
    made = az("container", "create", "-g", demo, "-n", "web", "--image", registry.ref("hello:1"), "--cpu", "1", "--memory",
              "1", "--ports", "80", "--ip-address", "Public", "--dns-name-label", "web-demo")
    assert made["provisioningState"] == "Succeeded"
    assert made["ipAddress"]["fqdn"] == "web-demo.local.berth.internal"
    address = made["ipAddress"]["ip"]
    assert "Hello from web" in fetch(address)

    dns_host, dns_port = berth.config["dns_listen"].split(":")
    dig = run("dig", "+short", "-p", dns_port, f"@{dns_host}", made["ipAddress"]["fqdn"])
    assert dig.stdout.strip() == address

    table = az("container", "list", "-o", "table", as_json=False).stdout
    assert "web" in table and "Succeeded" in table
    shown = az("container", "show", "-g", demo, "-n", "web")
    assert shown["instanceView"]["state"] == "Running"
    container = shown["containers"][0]["instanceView"]
    assert container["currentState"]["state"] == "Running"
    assert [e["name"] for e in container["events"]][-1] == "Started"
    assert "GET / HTTP/1.1" in az("container", "logs", "-g", demo, "-n", "web", as_json=False).stdout

    az("container", "stop", "-g", demo, "-n", "web")
    eventually(lambda: az("container", "show", "-g", demo, "-n", "web")["instanceView"]["state"] == "Stopped")
    with pytest.raises(OSError):
        fetch(address, timeout=1)
    az("container", "start", "-g", demo, "-n", "web")
    started = az("container", "show", "-g", demo, "-n", "web")
    assert started["ipAddress"]["ip"] == address, "the address stays over stop and start"
    assert "Hello from web" in fetch(address)

    az("container", "restart", "-g", demo, "-n", "web")
    eventually(lambda: az("container", "show", "-g", demo, "-n", "web")["instanceView"]["state"] == "Running")
    assert "Hello from web" in fetch(address)

    exported = berth.state.parent / "web.yaml"
    az("container", "export", "-g", demo, "-n", "web", "-f", str(exported), as_json=False)
    assert "hello:1" in exported.read_text()

    assert az("container", "delete", "-g", demo, "-n", "web", "-y")["name"] == "web"
    gone = az("container", "show", "-g", demo, "-n", "web", check=False)
    assert gone.returncode != 0 and "ResourceNotFound" in gone.stderr


def test_without_a_word_about_system_and_size(az, registry, demo):
    """This az fills in what newer ones leave to the service."""
    made = az("container", "create", "-g", demo, "-n", "plain", "--image", registry.ref("hello:1"))
    assert made["osType"] == "Linux"
    assert made["containers"][0]["resources"]["requests"] == {"cpu": 1.0, "memoryInGb": 1.5, "gpu": None}
    az("container", "delete", "-g", demo, "-n", "plain", "-y")


def test_what_fails_is_printed_at_once_and_readably(az, registry, private_registry, demo):
    private = private_registry.ref("busybox:1")
    wrong = ["--registry-login-server", private_registry.address, "--registry-username", "alice", "--registry-password", "no"]
    for name, image, options, words in [
        ("nopull", registry.ref("nothing:9"), [], f"(InaccessibleImage) The image '{registry.ref('nothing:9')}' is not "
         f"accessible: the registry '{registry.address}' does not have it."),
        ("noauth", private, [], f"(InaccessibleImage) The image '{private}' is not accessible: the registry "
         f"'{private_registry.address}' does not know it, or wants credentials for it."),
        ("wrongauth", private, wrong, f"(InaccessibleImage) The image '{private}' is not accessible: the registry "
         f"'{private_registry.address}' does not know it, or refuses the credentials for it."),
        ("norunning", "127.0.0.1:1/x:1", [], "(RegistryErrorResponse) The registry '127.0.0.1:1' could not give the image "
         "'127.0.0.1:1/x:1': 127.0.0.1:1 refused the connection."),
        ("noprogram", registry.ref("busybox:1"), ["--command-line", "/bin/nothing"], "(ContainerCreateFailed) The container "
         "'noprogram' could not be started: executable file `/bin/nothing` not found in $PATH"),
    ]:
        started = time.monotonic()
        failed = az("container", "create", "-g", demo, "-n", name, "--image", image, "--cpu", "0.5", "--memory", "0.5",
                    *options, check=False)
        assert failed.returncode == 1
        assert failed.stderr.startswith(f"ERROR: {words}"), failed.stderr
        assert time.monotonic() - started < 15, "az had nothing to wait for"
        shown = az("container", "show", "-g", demo, "-n", name)
        assert shown["provisioningState"] == "Failed"
        assert any(e["type"] == "Warning" for e in shown["containers"][0]["instanceView"]["events"])
        az("container", "delete", "-g", demo, "-n", name, "-y")


def test_a_second_try_succeeds_once_the_reason_is_gone(az, registry, demo):
    create = ["container", "create", "-g", demo, "-n", "later", "--image"]
    assert az(*create, registry.ref("nothing:9"), "--cpu", "1", "--memory", "1", check=False).returncode == 1
    made = az(*create, registry.ref("hello:1"), "--cpu", "1", "--memory", "1")
    assert made["provisioningState"] == "Succeeded"
    az("container", "delete", "-g", demo, "-n", "later", "-y")


def test_a_wrong_secret_is_said_in_azures_words(az, berth):
    wrong = az("login", "--service-principal", "-u", berth.admin["clientId"], "-p", "wrong", "--tenant",
               berth.admin["tenantId"], check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("ERROR: AADSTS7000215: Invalid client secret provided.")
    assert az("account", "show")["id"] == berth.admin["subscriptionId"], "who was signed in still is"


def test_rest_and_resource_commands(az, registry, demo):
    az("container", "create", "-g", demo, "-n", "raw", "--image", registry.ref("hello:1"), "--cpu", "1", "--memory", "1")
    url = (f"/subscriptions/{{subscriptionId}}/resourceGroups/{demo}/providers/Microsoft.ContainerInstance/containerGroups/raw"
           "{0}?api-version=2023-05-01")
    assert az("rest", "--method", "get", "--url", url.replace("{0}", ""))["name"] == "raw"
    az("rest", "--method", "post", "--url", url.replace("{0}", "/stop"))
    of_type = ["-g", demo, "-n", "raw", "--resource-type", "Microsoft.ContainerInstance/containerGroups"]
    assert "raw" in [r["name"] for r in az("resource", "list", "-g", demo)]
    assert az("resource", "tag", *of_type, "--tags", "a=b")["tags"] == {"a": "b"}
    assert az("resource", "show", *of_type)["tags"] == {"a": "b"}
    az("resource", "delete", *of_type)
    assert az("container", "list", "-g", demo) == []


def test_environment_and_secrets(az, registry, demo):
    az("container", "create", "-g", demo, "-n", "env", "--image", registry.ref("busybox:1"), "--cpu", "0.5", "--memory", "0.5",
       "-e", "A=1", "B=x y", "--secure-environment-variables", "S=hidden", "--restart-policy", "OnFailure",
       "--command-line", "/bin/sh -c 'echo $A $B $S; sleep 1000'")
    shown = az("container", "show", "-g", demo, "-n", "env")
    assert {v["name"]: v["value"] for v in shown["containers"][0]["environmentVariables"]} == {"A": "1", "B": "x y", "S": None}
    assert "hidden" not in json.dumps(shown)
    assert "1 x y hidden" in az("container", "logs", "-g", demo, "-n", "env", as_json=False).stdout
    az("container", "delete", "-g", demo, "-n", "env", "-y")


def test_what_is_not_there_yet_says_so(az, registry, demo):
    create = ["container", "create", "-g", demo, "-n", "no", "--image", "x", "--cpu", "1", "--memory", "1"]
    for options, words in [
        (["--os-type", "Windows"], "The value 'Windows' of 'properties.osType' is not supported by this version of Berth."),
        (["--gitrepo-url", "http://git.example/a", "--gitrepo-mount-path", "/g"], "It must be an https:// URL"),
        (["--assign-identity"], "The value 'SystemAssigned' of 'identity.type' is not supported by this version of Berth."),
        (["--zone", "1"], "The property 'zones' is not supported by this version of Berth."),
    ]:
        refused = az(*create, *options, check=False)
        assert refused.returncode == 1 and words in refused.stderr, refused.stderr


def test_validation_reaches_the_user(az, demo):
    wrong = az("container", "create", "-g", demo, "-n", "web2", "--image", "x", "--cpu", "1", "--memory", "1", "--ports", "80",
               "--ip-address", "Public", "--dns-name-label", "BAD", check=False)
    assert wrong.returncode != 0 and "The DNS name label 'BAD'" in wrong.stderr
    missing = az("container", "create", "-g", "nothing", "-n", "web2", "--image", "x", "--cpu", "1", "--memory", "1",
                 check=False)
    assert missing.returncode != 0 and "ResourceGroupNotFound" in missing.stderr


def test_a_yaml_file_is_deployed(az, berth, registry, demo):
    path = berth.state.parent / "group.yaml"
    path.write_text(f"""
apiVersion: '2021-10-01'
location: local
name: yamlgroup
properties:
  containers:
  - name: one
    properties:
      image: {registry.ref("busybox:1")}
      command: [sh, -c, "echo from yaml; sleep 1000"]
      resources:
        requests:
          cpu: 0.5
          memoryInGb: 0.5
  osType: Linux
  restartPolicy: Never
tags: {{a: b}}
type: Microsoft.ContainerInstance/containerGroups
""")
    az("container", "create", "-g", demo, "-f", str(path))
    assert "from yaml" in az("container", "logs", "-g", demo, "-n", "yamlgroup", as_json=False).stdout
    assert az("container", "show", "-g", demo, "-n", "yamlgroup")["tags"] == {"a": "b"}
    az("container", "delete", "-g", demo, "-n", "yamlgroup", "-y")
