"""The JavaScript SDK, @azure/arm-containerinstance with @azure/identity: js/main.mjs does the work."""
import pathlib

from harness import node_env, run

JS = pathlib.Path(__file__).parent / "js"


def test_every_operation(berth, registry, group):
    env = node_env(berth.state / "ca.pem", BERTH_ADMIN=str(berth.state / "admin.json"), BERTH_GROUP=group,
                   BERTH_REGISTRY=registry.address)
    done = run("node", "main.mjs", cwd=JS, env=env, timeout=120)
    assert done.stdout.splitlines()[-1] == "passed: delete", done.stdout
