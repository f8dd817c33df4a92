"""What the daemons hold resident when nothing happens."""
import pathlib

MIB = 1 << 10  # as /proc counts it


def resident_kib(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def test_idle_daemons_stay_small_after_sign_ins(berth):
    form = (f"grant_type=client_credentials&client_id={berth.admin['clientId']}"
            f"&client_secret={berth.admin['clientSecret']}").encode()
    for _ in range(12):  # each may come to another thread of the pool
        assert berth.raw("POST", "/adfs/oauth2/token", form,
                         {"Content-Type": "application/x-www-form-urlencoded"}).status == 200
    assert resident_kib(berth.pid("berthd")) < 20 * MIB
    assert resident_kib(berth.pid("berth-node")) < 12 * MIB
