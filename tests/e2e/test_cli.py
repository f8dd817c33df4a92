"""The command line: what it says to somebody who got it wrong, and what a second Berth on the machine may find."""
import pathlib
import subprocess

import pytest

from harness import BUILD, Berth, free_port, run

COMMANDS = ("up", "down", "az", "image", "run", "show", "logs", "stop", "start", "restart", "rm", "ps", "exec", "attach")


def fails(status, words, *argv, **kwargs):
    done = run(BUILD / "berth", *argv, check=False, **kwargs)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert words in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_names_a_wrong_option(command):
    text = run(BUILD / "berth", command, "--help").stdout
    assert text.startswith(f"Usage: berth {command}") and "--state DIR" in text
    argv = [command, "list", "--wrong"] if command == "image" else [command, "--wrong"]
    fails(2, f"unrecognized option '--wrong'\nTry: berth {command} --help", *argv)


def test_wrong_words_are_named(tmp_path):
    fails(2, "there is no command 'dance'", "dance")
    fails(2, "not there yet", "top")
    for argv in (["ps", "more"], ["az", "more"], ["down", "more"], ["up", "more"], ["show", "one", "more"]):
        fails(2, "there is no argument 'more'", *argv)
    fails(2, "'99999' is not a port", "run", "-n", "a", "--image", "b", "-p", "99999")
    fails(2, "'nan' is not a number", "run", "-n", "a", "--image", "b", "--cpu", "nan")
    for argv in (["ps"], ["az"], ["down"], ["logs", "a"], ["image", "list"]):
        fails(1, f"There is no Berth in {tmp_path}/none", *argv, "--state", tmp_path / "none")


def test_a_wrong_setting_leaves_nothing(tmp_path):
    for argv in (["--listen", "localhost:1"], ["--set", "nothing=1"], ["--set", "put_wait_ms=-1"], ["--config", "/none"]):
        fails(1, "berth: ", "up", "--state", tmp_path / "new", "--detach", *argv)
        assert not (tmp_path / "new").exists()


def test_ports_that_are_taken_are_told_and_dns_follows_listen(berth, workdir):
    second = Berth(workdir / "second")
    try:
        fails(1, "has that port: choose another with `berth up --listen HOST:PORT`", "up", "--state", second.state,
              "--listen", f"127.0.0.1:{berth.port}", "--set", f"dns_listen=127.0.0.1:{free_port()}", "--detach")
        fails(1, "--set dns_listen=HOST:PORT", "up", "--state", second.state, "--listen", f"127.0.0.1:{second.port}",
              "--set", "dns_listen=" + berth.config["dns_listen"], "--detach")
        second.settings = {"dns_listen": f"127.0.0.1:{second.port + 10}"}
        second.up()
        run(BUILD / "berth", "up", "--state", second.state, "--listen", "127.0.0.1:9000", "--prepare")
        assert '"127.0.0.1:9010"' in (second.state / "config.json").read_text()
    finally:
        second.purge()
    claims = [p.read_text() for p in pathlib.Path("/run/berth").iterdir()]
    assert str(second.state) not in claims and str(berth.state) in claims


def test_a_folder_that_berthd_cannot_reach_is_named(tmp_path):
    state = tmp_path / "s"
    tmp_path.chmod(0o700)
    try:
        fails(1, "every folder on the way must let it through", "up", "--state", state, "--listen",
              f"127.0.0.1:{free_port()}", "--detach")
    finally:
        run(BUILD / "berth", "down", "--state", state, "--purge")


def test_options_stand_anywhere_and_paths_are_relative(berth, registry, group):
    run(BUILD / "berth", "run", "--state", berth.state, "-g", group, "-n", "words", "--image", registry.ref("busybox:1"),
        "--", "sh", "-c", "echo one; echo --help; sleep 1000")
    at = {"cwd": berth.state.parent}
    argv = [BUILD / "berth", "logs", "words", "--tail", "1", "-g", group, "--state", berth.state.name]
    assert run(*argv, **at).stdout == "--help\n"
    assert f"'{berth.state}/ca.pem'" in run(BUILD / "berth", "az", "--state", berth.state.name, **at).stdout
    fails(1, "-g names another", "show", "words", "--state", berth.state)
    assert group in run(BUILD / "berth", "ps", "--state", berth.state, "-g", group).stdout


def test_events_of_a_group_are_listed_by_time(berth, registry, group):
    run(BUILD / "berth", "run", "--state", berth.state, "-g", group, "-n", "eventful", "--image", registry.ref("busybox:1"),
        "--", "sleep", "1000")
    lines = run(BUILD / "berth", "events", "--state", berth.state, "-g", group, "eventful").stdout.splitlines()
    assert lines[0].split()[:4] == ["LAST", "TYPE", "COUNT", "OF"]
    assert "Started container" in lines[-1] and " eventful " in lines[-1]
    assert lines[1:] == sorted(lines[1:], key=lambda line: line.split()[0])


def test_who_is_not_root_is_told(berth):
    nobody = ["setpriv", "--reuid=65534", "--clear-groups"]
    for command, words in (("up", "sudo berth up"), ("down", "sudo berth down"), ("ps", "try sudo"), ("az", "try sudo")):
        done = subprocess.run([*nobody, str(BUILD / "berth"), command, "--state", str(berth.state)], capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 1 and words in done.stderr, (command, done.stderr)
