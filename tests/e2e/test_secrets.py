"""Secrets that groups refer to instead of holding them, and DNS labels that are unique in a scope."""
import re

import pytest

from harness import eventually, run, view

V = "2025-09-01"
VAULT = "demo-vault"
COMMAND = "echo value=$PASSWORD; echo file=$(cat /secrets/token.txt); exec sleep 1000"


def keep(berth, name, value):
    return berth.berth("secret", "set", VAULT, name, input=value).stdout.strip()


def body(registry, command, uri, **more):
    """Two references to the same two secrets, one written as for Azure and one as `berth secret set` prints it."""
    return {"location": "local", "properties": {
        "osType": "Linux", "restartPolicy": "Always",
        "secretReferences": [
            {"name": "password", "identity": "/subscriptions/x/userAssignedIdentities/i",
             "secretReferenceUri": f"https://{VAULT}.vault.azure.net/secrets/password"},
            {"name": "token", "secretReferenceUri": uri}],
        "containers": [{"name": "c", "properties": {
            "image": registry.ref("busybox:1"), "command": ["/bin/sh", "-c", command],
            "environmentVariables": [{"name": "PASSWORD", "secureValueReference": "password"}],
            "volumeMounts": [{"name": "files", "mountPath": "/secrets"}],
            "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}}}}],
        "volumes": [{"name": "files", "secretReference": {"token.txt": "token"}}], **more}}


def lines(berth, group, name):
    log = berth.logs(group, name, "c")
    return log.split() if log.count("\n") >= 2 else None


@pytest.fixture
def made(berth, group, registry):
    """A running group with both secrets; its name."""
    keep(berth, "password", "canary-password-1\n")
    uri = keep(berth, "token", "canary-token-1")
    assert uri.startswith(f"{berth.endpoint}/vaults/{VAULT}/secrets/token/")
    name = berth.new_name("secret")
    answer = berth.call("PUT", berth.group_id(group, name), body(registry, COMMAND, uri.rsplit("/", 1)[0]), version=V)
    assert answer.status in (200, 201) and "canary" not in answer.text, answer.text
    berth.wait(group, name, lambda g: view(g).get("currentState", {}).get("state") == "Running")
    return name


def test_a_reference_is_its_value_in_the_container_and_nowhere_else(berth, group, made):
    assert eventually(lambda: lines(berth, group, made)) == ["value=canary-password-1", "file=canary-token-1"]
    shown = berth.call("GET", berth.group_id(group, made), version=V)
    listed = berth.call("GET", berth.sub("/providers/Microsoft.ContainerInstance/containerGroups"), version=V)
    assert "canary" not in shown.text + listed.text
    properties = shown.json["properties"]
    assert properties["containers"][0]["properties"]["environmentVariables"] == [
        {"name": "PASSWORD", "secureValueReference": "password"}]
    assert properties["volumes"] == [{"name": "files", "secretReference": {"token.txt": "token"}}]
    assert properties["secretReferences"][0]["identity"] == "/subscriptions/x/userAssignedIdentities/i"
    # What was read may be sent back: nothing changes.
    again = berth.call("PUT", berth.group_id(group, made), shown.json, version=V)
    assert again.status == 200 and view(again.json)["restartCount"] == 0, again.text
    for daemon in "berthd", "berth-node":
        assert "canary" not in (berth.state / "run" / f"{daemon}.log").read_text(errors="replace")


def test_a_new_value_comes_with_a_restart(berth, group, made):
    assert eventually(lambda: lines(berth, group, made)) == ["value=canary-password-1", "file=canary-token-1"]
    keep(berth, "password", "canary-password-2")
    keep(berth, "token", "canary-token-2")
    shown = berth.call("GET", berth.group_id(group, made), version=V).json
    assert berth.call("PUT", berth.group_id(group, made), shown, version=V).status == 200
    assert lines(berth, group, made) == ["value=canary-password-1", "file=canary-token-1"]
    assert berth.call("POST", berth.group_id(group, made) + "/restart", version=V).status == 204
    eventually(lambda: lines(berth, group, made) == ["value=canary-password-2", "file=canary-token-2"])


def test_what_is_not_there_is_refused_by_its_name(berth, group, registry):
    name = berth.new_name("secret")
    keep(berth, "password", "x")
    answer = berth.call("PUT", berth.group_id(group, name),
                        body(registry, COMMAND, f"https://{VAULT}.vault.azure.net/secrets/nowhere"), version=V)
    assert (answer.status, answer.code) == (400, "InvalidSecretReference")
    assert "berth secret set demo-vault nowhere" in answer.message
    assert answer.json["error"]["target"] == "properties.secretReferences[1].secretReferenceUri"
    assert berth.show(group, name) is None


def test_the_command_line_keeps_lists_and_removes(berth):
    first = keep(berth, "mine", "one")
    second = keep(berth, "mine", "two")
    assert first != second
    assert f"{berth.endpoint}/vaults/{VAULT}/secrets/mine" in berth.berth("secret", "list", VAULT).stdout.split()
    assert berth.call("GET", first, version=None).json["value"] == "one"
    assert berth.call("GET", first.rsplit("/", 1)[0], version=None).json["value"] == "two"
    # A name that isn't one means no other.
    for wrong in "mine/x", "mine?x", "mine%00", "mine#":
        assert berth.berth("secret", "remove", VAULT, wrong, check=False).returncode == 1
    berth.berth("secret", "remove", VAULT, "mine")
    assert berth.call("GET", first, version=None).code == "SecretNotFound"
    assert berth.raw("GET", second).status == 401


def labelled(registry, label, scope):
    return {"location": "local", "properties": {
        "osType": "Linux",
        "containers": [{"name": "c", "properties": {
            "image": registry.ref("hello:1"), "ports": [{"port": 80}],
            "resources": {"requests": {"cpu": 0.1, "memoryInGB": 0.1}}}}],
        "ipAddress": {"type": "Public", "ports": [{"port": 80}], "dnsNameLabel": label,
                      "autoGeneratedDomainNameLabelScope": scope}}}


def test_a_label_in_a_scope_resolves(berth, group, registry):
    host, port = berth.config["dns_listen"].split(":")
    names = []
    for scope in "ResourceGroupReuse", "SubscriptionReuse", "Noreuse", "ResourceGroupReuse":
        name = berth.new_name("scope")
        path = berth.group_id(group, name)
        answer = berth.call("PUT", path, labelled(registry, "shared", scope), version=V)
        assert answer.status in (200, 201), answer.text
        address = berth.wait(group, name, lambda g: g["properties"]["ipAddress"].get("ip"))["properties"]["ipAddress"]
        assert re.fullmatch(r"shared\.[a-z0-9]+\.local\.berth\.internal", address["fqdn"])
        assert run("dig", "+short", "-p", port, f"@{host}", address["fqdn"]).stdout.strip() == address["ip"]
        names.append(address["fqdn"])
        assert berth.call("DELETE", path, version=V).status in (200, 202, 204)
        eventually(lambda: berth.show(group, name) is None)
        assert run("dig", "+short", "-p", port, f"@{host}", address["fqdn"]).stdout.strip() == ""
    assert names[0] == names[3] and len(set(names)) == 3
