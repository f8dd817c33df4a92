// Every operation of @azure/arm-containerinstance against a Berth. test_sdk_js.py gives the rest in the environment:
// BERTH_ADMIN (admin.json), BERTH_GROUP (an empty resource group), BERTH_REGISTRY (host:port with hello:1 and busybox:1).
// Prints one line for each check that passed.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { ClientSecretCredential } from "@azure/identity";
import { ContainerInstanceManagementClient } from "@azure/arm-containerinstance";

const admin = JSON.parse(readFileSync(process.env.BERTH_ADMIN, "utf8"));
const rg = process.env.BERTH_GROUP;
const image = (name) => `${process.env.BERTH_REGISTRY}/${name}`;

function connect(secret) {
  const credential = new ClientSecretCredential("adfs", admin.clientId, secret,
    { authorityHost: admin.endpoint, disableInstanceDiscovery: true });
  return new ContainerInstanceManagementClient(credential, admin.subscriptionId, { endpoint: admin.endpoint });
}

const client = connect(admin.clientSecret);
const groups = client.containerGroups;

async function all(pages) {
  const items = [];
  for await (const item of pages) items.push(item);
  return items;
}

async function eventually(condition) {
  for (const deadline = Date.now() + 20000; ; await sleep(50)) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < deadline, `still not true: ${condition}`);
  }
}

const state = async (name) => (await groups.get(rg, name)).instanceView.state;
const startTime = async (name) => (await groups.get(rg, name)).containers[0].instanceView.currentState.startTime;

function body(name, more = {}, address = undefined) {
  return {
    location: "local",
    osType: "Linux",
    restartPolicy: "Always",
    containers: [{ name: "one", image: image(name), resources: { requests: { cpu: 0.5, memoryInGB: 0.5 } }, ...more }],
    ipAddress: address,
  };
}

const listening = (label) => [{ ports: [{ port: 80 }] },
  { type: "Public", ports: [{ port: 80, protocol: "TCP" }], dnsNameLabel: label }];
const asleep = { command: ["/bin/sh", "-c", "echo one; echo two; exec sleep 1000"] };

const checks = {
  async "create, get and list"() {
    const started = Date.now();
    const made = await groups.beginCreateOrUpdateAndWait(rg, "web",
      { ...body("hello:1", ...listening("sdk-js-web")), tags: { a: "1" } });
    assert.ok(Date.now() - started < 10000);
    assert.equal(made.provisioningState, "Succeeded");
    assert.equal(made.ipAddress.fqdn, "sdk-js-web.local.berth.internal");
    assert.match(await (await fetch(`http://${made.ipAddress.ip}/`)).text(), /Hello from web/);
    const shown = await groups.get(rg, "WEB");
    assert.equal(shown.id, made.id);
    assert.equal(shown.containers[0].instanceView.currentState.state, "Running");
    assert.ok(shown.containers[0].instanceView.currentState.startTime instanceof Date);
    assert.equal(shown.containers[0].instanceView.events.at(-1).name, "Started");
    assert.deepEqual((await all(groups.listByResourceGroup(rg))).map((g) => g.name), ["web"]);
    assert.ok((await all(groups.list())).some((g) => g.id === made.id));
  },

  async "a poller that is followed by hand"() {
    const poller = await groups.beginCreateOrUpdate(rg, "hand", body("busybox:1", asleep));
    const made = await poller.pollUntilDone();
    assert.equal(made.name, "hand");
    assert.equal(poller.getOperationState().status, "succeeded");
    assert.equal((await groups.beginDeleteAndWait(rg, "hand")).name, "hand");
  },

  async "update of tags"() {
    const before = await startTime("web");
    const tagged = await groups.update(rg, "web", { location: "local", tags: { b: "2" } });
    assert.deepEqual(tagged.tags, { b: "2" });
    assert.deepEqual(await startTime("web"), before);
  },

  async "stop, start and restart"() {
    await groups.stop(rg, "web");
    await eventually(async () => (await state("web")) === "Stopped");
    await groups.beginStartAndWait(rg, "web");
    assert.equal(await state("web"), "Running");
    const before = await startTime("web");
    await groups.beginRestartAndWait(rg, "web");
    await eventually(async () => (await startTime("web")) > before);
    assert.deepEqual(await groups.getOutboundNetworkDependenciesEndpoints(rg, "web"), []);
  },

  async "logs"() {
    await groups.beginCreateOrUpdateAndWait(rg, "logs", body("busybox:1", asleep));
    await eventually(async () => (await client.containers.listLogs(rg, "logs", "one")).content === "one\ntwo\n");
    const { content } = await client.containers.listLogs(rg, "logs", "one", { tail: 1, timestamps: true });
    assert.match(content, /^20\S+Z two\n$/);
    await assert.rejects(client.containers.listLogs(rg, "logs", "nothing"),
      { statusCode: 404, code: "ContainerNotFound" });
    for (const session of [
      await client.containers.executeCommand(rg, "logs", "one", { command: "ls", terminalSize: { rows: 24, cols: 80 } }),
      await client.containers.attach(rg, "logs", "one"),
    ]) {
      assert.match(session.webSocketUri, /^wss:\/\/127\.0\.0\.1:\d+\/streams\/[-0-9a-f]{36}\?api-version=1\.0/);
      assert.match(session.password, /\[\[EOM\]\]$/);
    }
  },

  async "the location and the operations"() {
    const usage = await all(client.location.listUsage("local"));
    assert.ok(usage.find((u) => u.name.value === "ContainerGroups").currentValue >= 2);
    const [capability] = await all(client.location.listCapabilities("local"));
    assert.equal(capability.osType, "Linux");
    assert.ok(capability.capabilities.maxCpu >= 1);
    const images = await all(client.location.listCachedImages("local"));
    assert.ok(images.some((i) => i.image === image("busybox:1") && i.osType === "Linux"));
    const operations = await all(client.operations.list());
    assert.ok(operations.some((o) => o.name === "Microsoft.ContainerInstance/containerGroups/write"));
  },

  async "a pull that fails says why"() {
    const started = Date.now();
    await assert.rejects(groups.beginCreateOrUpdateAndWait(rg, "nopull", body("nothing:9")), (error) => {
      assert.match(error.message, /nothing:9/);
      return true;
    });
    assert.ok(Date.now() - started < 10000);
    const made = await groups.get(rg, "nopull");
    assert.equal(made.provisioningState, "Failed");
    assert.ok(made.containers[0].instanceView.events.some((e) => e.message.includes("nothing:9")));
    await groups.beginDeleteAndWait(rg, "nopull");
  },

  async "errors"() {
    await assert.rejects(groups.get(rg, "nothing"), { statusCode: 404, code: "ResourceNotFound" });
    await assert.rejects(groups.beginCreateOrUpdateAndWait("no-such-rg", "x", body("hello:1")),
      { statusCode: 404, code: "ResourceGroupNotFound" });
    await assert.rejects(groups.beginCreateOrUpdateAndWait(rg, "UPPER", body("hello:1")), (error) => {
      assert.deepEqual([error.statusCode, error.code, error.details.error.target],
        [400, "InvalidContainerGroupName", "name"]);
      return true;
    });
    await assert.rejects(groups.beginCreateOrUpdateAndWait(rg, "other", body("hello:1", ...listening("sdk-js-web"))),
      { statusCode: 409, code: "DnsNameLabelNotAvailable" });
    await assert.rejects(connect("wrong").containerGroups.get(rg, "web"), /AADSTS7000215/);
  },

  async "delete"() {
    assert.equal((await groups.beginDeleteAndWait(rg, "web")).name, "web");
    await assert.rejects(groups.get(rg, "web"), { statusCode: 404 });
    assert.equal((await groups.beginDeleteAndWait(rg, "web"))?.name, undefined);
    await groups.beginDeleteAndWait(rg, "logs");
    assert.deepEqual(await all(groups.listByResourceGroup(rg)), []);
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
  } catch (error) {
    console.error(`FAILED: ${name}`);
    throw error;
  }
  console.log(`passed: ${name}`);
}
