import errno
import gzip
import hashlib
import itertools
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.foundation import locks
from sfisep_core.pretrained import cache as cache_module
from sfisep_core.pretrained import transfer
from sfisep_core.pretrained.address import folder_name, shown_name
from sfisep_core.pretrained.cache import CachedModel, cached_models, locked, remove
from sfisep_core.pretrained.fetch import check_model, fetch_model, find_downloadable, local_file
from sfisep_core.pretrained.hub import RemoteFile, choose
from sfisep_core.pretrained.model_files import load_model
from sfisep_core.pretrained.official import load_official_model
from sfisep_core.pretrained.registry import BUNDLED, BUNDLED_SHA256, RELEASED, list_models
from sfisep_core.pretrained.resolve import model_path, resolve_model
from tests.pretrained.conftest import NAME, run_path
from tests.pretrained.hub_server import Hub

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_in(cache: Path) -> list[str]:
    """Names of all that is kept, but for locks."""
    found = [path for path in cache.rglob("*") if not path.name.endswith(".lock")]
    return sorted(str(path.relative_to(cache)) for path in found)


def state_of(name: str) -> str:
    (state,) = (entry.state for entry in list_models() if entry.name == name)
    return state


def error_of(name: str, **options: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        fetch_model(name, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


# Names


def test_every_released_model_has_four_names() -> None:
    assert len(RELEASED) == 12
    seeds = {name: RELEASED[name].seed for name in RELEASED if name.startswith(NAME)}
    assert seeds == {NAME: 40, f"{NAME}-42": 42, f"{NAME}-44": 44, f"{NAME}-47": 47}
    assert len({RELEASED[name].revision for name in seeds}) == 1


def test_digest_of_the_bundled_model_is_known() -> None:
    assert {name: sha256(path.read_bytes()) for name, path in BUNDLED.items()} == BUNDLED_SHA256
    check_model("default")


@pytest.mark.parametrize("name", ["nope", "file-that-is-not-there.safetensors"])
def test_unknown_names_are_refused(name: str, hub: Hub) -> None:
    with pytest.raises(CheckpointError, match=r"a bundled model \(default, .*\), a released"):
        resolve_model(name)
    assert (
        "known are default, spleeter-vocals, instrumental-unet, instrumental-conv-tasnet, sfi-conv-"
        in error_of(name)
    )
    assert hub.requests == []


# The hub


def test_a_released_model_is_fetched_and_converted_once(
    hub: Hub, cache: Path, checkpoints: dict[int, bytes], tmp_path: Path
) -> None:
    assert state_of(NAME) == "not downloaded"
    calls: list[tuple[float, float, str]] = []
    model = resolve_model(NAME, progress=lambda *call: calls.append(call))

    (tmp_path / "reference").write_bytes(checkpoints[40])
    reference = load_official_model(tmp_path / "reference")
    for name, weight in reference.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    assert not model.training

    size = len(checkpoints[40])
    assert calls[-1] == (size, size, "sfi_convtasnet_fd_mgf_musdb18hq")
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    assert (hub.count("tree"), hub.count("head"), hub.count("file")) == (3, 1, 1)
    assert files_in(cache) == [f"{NAME}.json", f"{NAME}.safetensors"]
    weights = cache / f"{NAME}.safetensors"
    assert json.loads((cache / f"{NAME}.json").read_text()) == {
        "name": NAME,
        "source": f"{RELEASED[NAME].repository}/{run_path(40)}",
        "revision": RELEASED[NAME].revision,
        "source_sha256": sha256(checkpoints[40]),
        "sha256": sha256(weights.read_bytes()),
        "size": weights.stat().st_size,
    }
    assert state_of(NAME) == "cached"
    assert state_of(f"{NAME}-42") == "not downloaded"


def test_a_cached_model_needs_no_request(hub: Hub, cache: Path) -> None:
    path = fetch_model(NAME)
    hub.requests.clear()
    assert fetch_model(NAME) == fetch_model(NAME, mend=True) == model_path(NAME) == path
    assert local_file(NAME) == path == cache / f"{NAME}.safetensors"
    resolve_model(NAME)
    check_model(NAME)
    list_models()
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
def test_each_seed_has_its_own_file(cache: Path) -> None:
    paths = [fetch_model(NAME), fetch_model(f"{NAME}-42")]
    designs = [load_model(path).config_dict()["design"] for path in paths]
    assert designs == ["frequency", "time"]
    assert len(files_in(cache)) == 4


def test_requests_are_pinned_anonymous_and_leave_nothing_at_home(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    home = cache.parent.with_name("home")
    for name in ("HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(home))
    fetch_model(NAME)
    assert not home.exists()
    assert len(hub.requests) == 5
    assert all(RELEASED[NAME].revision in path for _, path in hub.requests)
    assert all("authorization" not in headers for headers in hub.headers)


@pytest.mark.usefixtures("hub")
def test_progress_is_logged_for_who_shows_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sfisep_core"):
        resolve_model(NAME)
    text = caplog.text
    assert f"downloading model {NAME} from tnkmr/sfi_convtasnet_fd_mgf_musdb18hq" in text
    progress = transfer.LoggedProgress()
    caplog.clear()
    with caplog.at_level(logging.INFO, "sfisep_core"):
        for done in range(0, 101):
            progress(done * 1e6, 100e6, "file")
    assert caplog.messages == [f"file: {done}.0 of 100.0 MB" for done in (0, 20, 40, 60, 80, 100)]


@pytest.mark.parametrize("variant", ["fd_mgf", "td_mgf", "td_mpgtf"])
def test_checkpoints_of_the_published_program_are_fetched(
    hub: Hub, shared_dir: Path, variant: str
) -> None:
    folder = shared_dir / "fixtures" / "official"
    if not folder.is_dir():
        pytest.skip("the parity fixtures are not in the shared folder")
    path = folder / f"sfi_convtasnet_{variant}.best_checkpoint"
    name = f"sfi-conv-tasnet-{variant.replace('_', '-')}"
    released = RELEASED[name]
    hub.repositories[released.repository, released.revision][run_path(40)] = path.read_bytes()
    fetched, expected = resolve_model(name), load_official_model(path)
    assert fetched.config_dict() == expected.config_dict()
    for key, weight in expected.state_dict().items():
        assert torch.equal(fetched.state_dict()[key], weight)


def test_a_proxy_is_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFISEP_WEIGHTS_URL", "http://hub.invalid")
    monkeypatch.setenv("HTTP_PROXY", hub.address)
    monkeypatch.setenv("http_proxy", hub.address)
    fetch_model(NAME)
    assert hub.requests[0][1].startswith("http://hub.invalid/api/models/")
    hub.plain["x"] = BUNDLED["sfi-conv-tasnet-small"].read_bytes()
    fetch_model("http://host.invalid/plain/x")
    assert hub.requests[-1] == ("plain", "http://host.invalid/plain/x")


def test_a_proxy_is_passed_by(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    fetch_model(NAME)
    assert hub.requests[0][1].startswith("/api/models/")


# Which file


def run(folder: str, *, digest: str = "a" * 64) -> RemoteFile:
    return RemoteFile(f"{folder}/best_checkpoint", 1, digest)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["lr=40,seed=42", "lr=1,seed=40"], "lr=1,seed=40"),
        (["a/seed40_b", "a/seed400", "a/seed4", "a/seed_42"], "a/seed40_b"),
        (["Seed-40,x=1", "seed-44"], "Seed-40,x=1"),
        (["seed=40.5", "seed 40"], "seed 40"),
        (["runs/40", "runs/42", "runs/x440", "runs/0.40"], "runs/40"),
    ],
)
def test_the_folder_names_the_seed(folders: list[str], expected: str) -> None:
    files = [*map(run, folders), RemoteFile(f"{expected}/last_checkpoint", 1, "b" * 64)]
    assert choose(files, 40, "here").path == f"{expected}/best_checkpoint"


@pytest.mark.parametrize(
    ("folders", "number"),
    [
        (["seed=42", "seed=44"], 0),
        (["40", "seed=42"], 0),
        (["a,seed=40", "b,seed=40"], 2),
        (["unseed=40", "seed=41"], 0),
        ([], 0),
    ],
)
def test_no_run_or_several_are_refused(folders: list[str], number: int) -> None:
    with pytest.raises(CheckpointError) as caught:
        choose([*map(run, folders), RemoteFile("seed=40/other", 1, "")], 40, "here")
    listed = ", ".join(f"{folder}/best_checkpoint" for folder in folders) or "none"
    assert str(caught.value) == (
        "here: expected exactly one best_checkpoint in a folder whose name gives seed 40, found "
        f"{number}; all files of that name: {listed}"
    )


def test_a_listing_without_digests_is_refused(hub: Hub, cache: Path) -> None:
    hub.lfs = False
    assert "the listing gives no sha256 for runs/" in error_of(NAME)
    assert files_in(cache) == []


def test_a_seed_that_is_not_there(hub: Hub) -> None:
    message = error_of(f"{NAME}-44")
    assert "found 0; all files of that name: runs/model=sfi" in message
    assert (
        "fetch the `best_checkpoint` of seed 44 from that repository at revision 7eb23" in message
    )
    assert hub.count("file") == 0


# Servers in trouble


@pytest.mark.parametrize(
    ("kind", "fault", "words"),
    [
        ("tree", 404, "status 404: nothing is there, or no longer"),
        ("head", 404, "status 404: nothing is there, or no longer"),
        ("file", 404, "status 404: nothing is there, or no longer"),
        ("tree", 401, "status 401: it denies access"),
        ("head", 403, "status 403: it denies access"),
        ("file", 403, "status 403: it denies access"),
        ("tree", 500, "status 500: it is in trouble; try again later"),
        ("head", 503, "status 503: it is in trouble; try again later"),
        ("file", 500, "status 500: it is in trouble; try again later"),
        ("file", 418, "status 418: it refuses the request"),
        ("tree", b"<html>", r"does not answer as a hub does \(JSONDecodeError\)"),
        ("tree", b'{"a": 1}', r"does not answer as a hub does \(TypeError\)"),
        ("tree", b'[{"type": "file"}]', r"does not answer as a hub does \(KeyError\)"),
        ("file", b"short", "the bytes are not those that the listing promises"),
        ("file", "cut", "no connection to http://127.0.0.1:"),
    ],
)
def test_what_goes_wrong_for_good_is_said(
    hub: Hub,
    cache: Path,
    waits: list[float],
    caplog: pytest.LogCaptureFixture,
    kind: str,
    fault: int | bytes | str,
    words: str,
) -> None:
    hub.always[kind] = fault
    message = error_of(NAME)
    assert message.startswith(f"model {NAME}: cannot be downloaded from tnkmr/sfi_convtasnet_fd")
    assert re.search(words, message)
    assert "pass its path as --model" in message
    assert files_in(cache) == []
    assert state_of(NAME) == "not downloaded"
    assert bool(waits) == (fault in (500, 503, "cut"))
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    # The same model is there as soon as the server is well.
    hub.always.clear()
    check_model(fetch_model(NAME).stem)


@pytest.mark.parametrize(
    ("kind", "faults"),
    [
        ("tree", [500, 503, 429]),
        ("head", [500, 502]),
        ("file", [500, 503]),
        ("file", ["cut"]),
        ("file", ["cut", 500, "cut"]),
    ],
)
def test_what_passes_is_tried_again(
    hub: Hub,
    waits: list[float],
    checkpoints: dict[int, bytes],
    kind: str,
    faults: list[int | bytes | str],
) -> None:
    hub.faults[kind] = list(faults)
    calls: list[float] = []
    fetch_model(NAME, progress=lambda done, *_: calls.append(done))
    assert calls[-1] == len(checkpoints[40])
    assert hub.faults[kind] == []
    assert waits
    check_model(NAME)


def test_a_cut_download_goes_on_where_it_was(
    hub: Hub,
    waits: list[float],
    checkpoints: dict[int, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sfisep_core")
    monkeypatch.setattr(transfer, "_CHUNK", 1000)
    hub.faults["file"] = ["cut"]
    fetch_model(NAME)
    ranges = [headers["range"] for headers in hub.headers if "range" in headers]
    assert set(ranges) == {f"bytes={len(checkpoints[40]) // 2000 * 1000}-"}
    assert waits == [1]
    assert any("trying again" in message for message in caplog.messages)


def test_other_bytes_of_the_right_length_are_refused(
    hub: Hub, cache: Path, checkpoints: dict[int, bytes]
) -> None:
    wrong = bytearray(checkpoints[40])
    wrong[5000] ^= 1
    hub.always["file"] = bytes(wrong)
    message = error_of(NAME)
    assert f"expected {len(wrong)} bytes with sha256 {sha256(checkpoints[40])}, found" in message
    assert sha256(wrong) in message
    assert files_in(cache) == []


def test_a_file_of_another_kind_is_refused(hub: Hub, cache: Path) -> None:
    released = RELEASED[NAME]
    hub.repositories[released.repository, released.revision][run_path(40)] = b"other" * 100
    assert "is neither a safetensors file nor a checkpoint of torch.save" in error_of(NAME)
    assert files_in(cache) == []


@pytest.mark.parametrize("kind", ["tree", "head", "file"])
def test_a_server_that_stalls_is_given_up(
    hub: Hub, cache: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", 0.1)
    hub.always[kind] = "stall"
    assert re.search(rf"{hub.address}\S+ stalls: nothing came for 0\.1 s", error_of(NAME))
    assert waits
    assert files_in(cache) == []


@pytest.mark.usefixtures("hub")
def test_no_server_is_there(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFISEP_WEIGHTS_URL", "http://127.0.0.1:9")
    message = error_of(NAME)
    assert re.search(r"no connection to http://127\.0\.0\.1:9\S+, or it was cut \(", message)
    assert "Connection refused" in message
    assert "Max retries" not in message
    assert "this machine seems to be offline" in message
    assert waits


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("address", ["http://127.0.0.1:99999/x.safetensors", "leads elsewhere"])
def test_what_is_no_address_is_not_called_offline(address: str) -> None:
    class Redirection(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Redirection) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        if address == "leads elsewhere":
            address = f"http://127.0.0.1:{server.server_port}/x.safetensors"
        try:
            message = error_of(address)
        finally:
            server.shutdown()
            thread.join()
    assert f"{address}, or the address to which it leads, is none of http:// or https://" in message


def test_offline_mode_is_kept_to(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "no request was made: HF_HUB_OFFLINE is set" in error_of(NAME)
    assert hub.requests == []


@pytest.mark.parametrize("address", ["ftp://host", "host", "http://", "file:///etc"])
def test_mirror_must_be_an_address(hub: Hub, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("SFISEP_WEIGHTS_URL", address)
    assert f"SFISEP_WEIGHTS_URL: expected an address with http:// or https://, got {address!r}" in (
        error_of(NAME)
    )
    assert hub.requests == []


# The cache


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "bit": (flip_a_bit, "expected sha256", "cached"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, found", "damaged"),
    "emptied": (lambda path: path.write_bytes(b""), "bytes, found 0:", "damaged"),
    "gone": (lambda path: path.unlink(), "bytes, found no file", "damaged"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_noticed_and_mended(hub: Hub, case: str) -> None:
    damage, words, state = DAMAGES[case]
    path = fetch_model(NAME)
    before = path.read_bytes()
    damage(path)
    hub.requests.clear()
    assert state_of(NAME) == state
    for act in (resolve_model, fetch_model, check_model):
        with pytest.raises(CheckpointError, match=words) as caught:
            act(NAME)
        assert f"run `sfisep models download {NAME}` to replace it" in str(caught.value)
        assert str(path) in str(caught.value)
    assert hub.requests == []
    fetch_model(NAME, mend=True)
    assert path.read_bytes() == before
    check_model(NAME)


@pytest.mark.parametrize("record", [b"", b"{}", b"[1]", b"\xff", b'{"name": 1}', b"[" * 100000])
def test_weights_without_a_record_do_not_count(hub: Hub, record: bytes) -> None:
    path = fetch_model(NAME)
    path.with_suffix(".json").write_bytes(record)
    assert state_of(NAME) == "not downloaded"
    with pytest.raises(CheckpointError, match="is not downloaded: run `sfisep models download"):
        local_file(NAME)
    fetch_model(NAME)
    assert hub.count("file") == 2
    check_model(NAME)


SOUND = {
    "name": "a",
    "source": "b",
    "revision": None,
    "source_sha256": "c",
    "sha256": "d",
    "size": 1,
}


def test_records_have_types_and_ranges(tmp_path: Path) -> None:
    model = CachedModel("a", tmp_path / "a.safetensors")
    model.record_path.write_text(json.dumps(SOUND), encoding="utf-8")
    record = model.record()
    assert record is not None
    assert asdict(record) == SOUND
    hostile = ([], {}, True, -1, 10**400, 1.5)
    for field, value in itertools.product([*SOUND, "other"], hostile):
        model.record_path.write_text(json.dumps({**SOUND, field: value}), encoding="utf-8")
        assert model.record() is None


@pytest.mark.usefixtures("hub")
def test_an_interrupted_download_leaves_nothing(cache: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_model(NAME, progress=interrupt)
    assert files_in(cache) == []
    fetch_model(NAME)


@pytest.mark.usefixtures("native")
def test_a_full_disk_is_not_taken_for_the_network(
    hub: Hub, cache: Path, waits: list[float]
) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in (NAME, f"{hub.address}/plain/my.model.safetensors"):
        with pytest.raises(CheckpointError, match=r"cannot be written: .*No space left on device"):
            fetch_model(name, progress=fill)
    assert waits == []
    assert files_in(cache) == []


@pytest.mark.usefixtures("hub")
def test_removing_frees_what_was_taken(cache: Path) -> None:
    fetch_model(NAME)
    taken = sum(path.stat().st_size for path in cache.iterdir() if not path.name.endswith("lock"))
    assert remove(find_downloadable(NAME)) == taken
    assert files_in(cache) == []
    with pytest.raises(CheckpointError, match="is not downloaded: there is nothing to remove"):
        remove(find_downloadable(NAME))
    with pytest.raises(CheckpointError, match="comes with this program"):
        find_downloadable("default")


def test_a_cache_that_cannot_be_written(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SFISEP_CACHE", str(tmp_path / "file"))
    message = error_of(NAME)
    assert f"the cache {tmp_path / 'file' / 'models'} cannot be written" in message
    assert "set SFISEP_CACHE to another folder" in message
    assert hub.requests == []


def test_the_cache_is_the_users_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SFISEP_CACHE", raising=False)
    monkeypatch.setattr(cache_module.platformdirs, "user_cache_dir", lambda _: str(tmp_path / "u"))
    assert cache_module.cache_folder() == tmp_path / "u" / "models"
    monkeypatch.setenv("SFISEP_CACHE", str(tmp_path / "named"))
    assert cache_module.cache_folder() == tmp_path / "named" / "models"


def test_a_lock_that_is_never_freed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.05)
    monkeypatch.setattr(locks, "_LOOK_AGAIN", 0.02)
    with locked(find_downloadable(NAME)):
        message = error_of(NAME)
    assert (
        f"process {os.getpid()} on {socket.gethostname()} holds {cache_module.cache_folder()}"
        in (message)
    )
    assert "has written nothing for 0.05 s: end it, and try again" in message
    assert hub.requests == []
    fetch_model(NAME)


@pytest.mark.usefixtures("hub")
def test_a_holder_that_comes_on_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.2)
    monkeypatch.setattr(locks, "_LOOK_AGAIN", 0.05)
    ready, model = threading.Event(), find_downloadable(NAME)

    def hold() -> None:
        with locked(model) as folder, (folder / "file").open("wb", buffering=0) as file:
            ready.set()
            for _ in range(20):
                file.write(b"more")
                time.sleep(0.05)

    thread = threading.Thread(target=hold)
    thread.start()
    assert ready.wait(60)
    fetch_model(NAME)
    thread.join()
    check_model(NAME)


# Processes

CHILD = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from sfisep_core.pretrained.fetch import fetch_model
print("ready", flush=True)
sys.stdin.readline()
print("got", fetch_model(sys.argv[1]), flush=True)
"""


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that are ready to fetch the model at a line of input."""
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CHILD, NAME],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in started:
        wait_for(child, "ready")
    yield started
    for child in started:
        child.kill()
        child.communicate()


def wait_for(child: subprocess.Popen[str], words: str) -> None:
    assert child.stdout is not None
    lines = []
    for line in child.stdout:
        lines.append(line)
        if line.startswith(words):
            return
    pytest.fail(f"the process ended without {words!r}: {lines}")


def start(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def test_of_two_processes_one_downloads(
    hub: Hub, cache: Path, children: list[subprocess.Popen[str]]
) -> None:
    hub.faults["file"] = ["stall"]
    first, second = children
    start(first)
    assert hub.stalled.wait(60)
    start(second)
    wait_for(second, f"waiting for process {first.pid} on {socket.gethostname()}, which fetches")
    hub.go_on.set()
    for child in children:
        wait_for(child, f"got {cache / NAME}.safetensors")
    assert hub.count("file") == 1
    assert hub.count("tree") == 3
    check_model(NAME)


def test_a_killed_process_leaves_nothing_to_trust(
    hub: Hub, cache: Path, children: list[subprocess.Popen[str]]
) -> None:
    hub.faults["file"] = ["stall"]
    start(children[0])
    assert hub.stalled.wait(60)
    children[0].kill()
    children[0].wait()
    assert any(name.endswith(".part/best_checkpoint") for name in files_in(cache))
    assert state_of(NAME) == "not downloaded"
    start(children[1])
    wait_for(children[1], "got")
    assert files_in(cache) == [f"{NAME}.json", f"{NAME}.safetensors"]
    check_model(NAME)


# Plain addresses


@pytest.fixture
def native(hub: Hub, checkpoints: dict[int, bytes]) -> bytes:
    """A model in the native format, which the server has as my.model.safetensors."""
    content = BUNDLED["sfi-conv-tasnet-small"].read_bytes()
    hub.plain["my.model.safetensors"] = content
    hub.plain["best_checkpoint"] = checkpoints[40]
    return content


def test_an_address_is_fetched_once_and_remembered(
    hub: Hub, cache: Path, native: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{hub.address}/plain/my.model.safetensors"
    assert resolve_model(url).sources == resolve_model("sfi-conv-tasnet-small").sources
    warnings = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert warnings == [
        f"{url} was taken without a sha256 to check it against; from now on it must be "
        f"{sha256(native)}"
    ]
    resolve_model(url)
    assert hub.count("plain") == 1
    path = local_file(url)
    assert path.read_bytes() == native
    assert re.fullmatch(r"my-model-[0-9a-f]{16}\.safetensors", path.name)
    assert files_in(cache) == [path.with_suffix(".json").name, path.name]
    assert [model.name for model in cached_models()] == [url]
    (entry,) = (entry for entry in list_models() if entry.kind == "address")
    assert (entry.name, entry.state, entry.native_rate) == (url, "cached", 32000)
    path.write_bytes(b"")
    (entry,) = (entry for entry in list_models() if entry.kind == "address")
    assert (entry.name, entry.state, entry.native_rate) == (url, "damaged", 0)


def test_what_an_address_gave_at_first_it_must_give_again(
    hub: Hub, native: bytes, checkpoints: dict[int, bytes]
) -> None:
    url = f"{hub.address}/plain/my.model.safetensors"
    path = fetch_model(url)
    path.write_bytes(b"")
    hub.plain["my.model.safetensors"] = checkpoints[40]
    with pytest.raises(CheckpointError, match=f"expected sha256 {sha256(native)}, found "):
        fetch_model(url, mend=True)
    hub.plain["my.model.safetensors"] = native
    fetch_model(url, mend=True)
    check_model(url)


def test_a_given_digest_is_checked(
    hub: Hub, cache: Path, native: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{hub.address}/plain/my.model.safetensors"
    assert f"expected sha256 {'0' * 64}, found {sha256(native)}" in error_of(url, sha256="0" * 64)
    assert files_in(cache) == []
    fetch_model(url, sha256=sha256(native).upper())
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    fetch_model(url, sha256=sha256(native))
    assert hub.count("plain") == 2
    # Another digest asks for another file, and one that is not there leaves the old.
    assert "expected sha256" in error_of(url, sha256="0" * 64)
    check_model(url)


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "0" * 63])
def test_digests_that_are_none(hub: Hub, digest: str) -> None:
    with pytest.raises(ConfigError, match="expected 64 hexadecimal digits"):
        fetch_model("http://host/x", sha256=digest)
    with pytest.raises(ConfigError, match="can be given for an address only"):
        fetch_model(NAME, sha256=digest)
    assert hub.requests == []


@pytest.mark.usefixtures("native")
def test_an_address_of_a_published_checkpoint_is_converted(hub: Hub) -> None:
    path = fetch_model(f"{hub.address}/plain/best_checkpoint")
    assert load_model(path).config_dict()["alignment"] == "release"


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>log in</html>", b"PK\x03\x04" + b"x" * 100, b"\x08" + b"\0" * 7 + b"{}      "],
)
def test_files_that_are_no_models_are_not_kept(hub: Hub, cache: Path, content: bytes) -> None:
    url = f"{hub.address}/plain/x.safetensors"
    hub.plain["x.safetensors"] = content
    message = error_of(url)
    assert f"model {url}: the file there is no model, and was not kept: model file (as down" in (
        message
    )
    assert files_in(cache) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (404, "status 404: nothing is there"),
        (403, "status 403: it denies access"),
        (500, "status 500: it is in trouble"),
        ("cut", "or it was cut"),
    ],
)
@pytest.mark.usefixtures("native")
def test_addresses_that_fail(
    hub: Hub, cache: Path, waits: list[float], fault: int | str, words: str
) -> None:
    hub.always["plain"] = fault
    url = f"{hub.address}/plain/my.model.safetensors"
    message = error_of(url)
    assert message.startswith(f"model {url}: cannot be downloaded: ")
    assert words in message
    assert waits == ([1, 2, 4] if fault in (500, "cut") else [])
    assert files_in(cache) == []


def test_an_address_that_recovers(hub: Hub, native: bytes, waits: list[float]) -> None:
    hub.faults["plain"] = ["cut", 503]
    calls: list[tuple[float, float]] = []
    url = f"{hub.address}/plain/my.model.safetensors"
    fetch_model(url, progress=lambda done, total, _: calls.append((done, total)))
    assert calls[-1] == (len(native), len(native))
    assert waits == [1, 2]


@pytest.mark.usefixtures("native")
def test_an_address_that_stalls(
    hub: Hub, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", 0.1)
    hub.always["plain"] = "stall"
    url = f"{hub.address}/plain/my.model.safetensors"
    assert f"{url} stalls: nothing came for 0.1 s" in error_of(url)
    assert len(waits) == 3


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "file:///etc/passwd", "http:///x", "https://", "http://[", "s3://b/x"]
)
@pytest.mark.usefixtures("hub")
def test_addresses_of_other_kinds_are_refused(url: str) -> None:
    for act in (resolve_model, fetch_model):
        with pytest.raises(CheckpointError, match=r"expected http://HOST/\.\.\. or https://HOST"):
            act(url)


@pytest.mark.usefixtures("hub")
def test_names_of_files_stay_in_the_cache(cache: Path) -> None:
    for url in (
        "http://h/../../x",
        "http://h/a%2f..%2fb?q=/..",
        "http://h",
        "http://h/" + "n" * 999,
    ):
        model = find_downloadable(url)
        assert isinstance(model, CachedModel)
        assert model.path.parent == cache
        assert re.fullmatch(r"[A-Za-z0-9-]{1,77}\.safetensors", model.path.name)


# Limits


@pytest.mark.parametrize("said", [True, False])
def test_files_of_any_size_are_not_taken(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    monkeypatch.setattr(transfer, "_CHUNK", 1000)
    hub.plain["large"] = bytes(100_000)
    if said:
        monkeypatch.setattr(hub, "headers_of_files", {"Content-Length": str(2**40)})
    else:
        monkeypatch.setattr(hub, "headers_of_files", {"Content-Length": None})
        monkeypatch.setattr(
            transfer.download,
            "__kwdefaults__",
            {**(transfer.download.__kwdefaults__ or {}), "most_bytes": 50_000},
        )
    written: list[float] = []
    url = f"{hub.address}/plain/large"
    with pytest.raises(
        CheckpointError, match=r"sends more than \d+ bytes, which no model file has"
    ):
        fetch_model(url, progress=lambda done, *_: written.append(done))
    assert (max(written, default=0) == 50_000) is not said
    assert files_in(cache) == []


def test_packed_content_is_not_unpacked(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.plain["bomb"] = gzip.compress(bytes(2**24))
    monkeypatch.setattr(hub, "headers_of_files", {"Content-Encoding": "gzip"})
    assert "answers with packed content ('gzip')" in error_of(f"{hub.address}/plain/bomb")
    assert all(headers["accept-encoding"] == "identity" for headers in hub.headers)
    assert files_in(cache) == []


@pytest.mark.usefixtures("native")
def test_a_download_that_takes_too_long_ends(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LONGEST", 0.0)
    url = f"{hub.address}/plain/my.model.safetensors"
    assert f"{url} is too slow: 0 bytes came in 0 s" in error_of(url)
    assert files_in(cache) == []


def test_a_listed_size_is_believed_in_neither_direction(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", 1000)
    assert re.search(r"best_checkpoint has \d+ bytes, expected at most 1000", error_of(NAME))
    assert hub.count("file") == 0
    assert files_in(cache) == []


def test_a_list_without_end_ends(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfisep_core.pretrained.hub._MAX_PAGES", 2)
    assert "has more than 2 pages" in error_of(NAME)
    assert hub.count("tree") == 2


# Secrets


SECRET = "hunter2"  # noqa: S105


@pytest.mark.usefixtures("native")
def test_secrets_of_an_address_are_neither_shown_nor_stored(
    hub: Hub, cache: Path, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sfisep_core")
    address = hub.address.replace("://", f"://me:{SECRET}@")
    url = f"{address}/plain/my.model.safetensors?token={SECRET}&download=true"
    shown = f"{hub.address}/plain/my.model.safetensors?token=***&download=***"
    assert shown_name(url) == shown
    hub.faults["plain"] = [404]
    messages = [error_of(url)]
    messages.append(error_of(url.replace(hub.address.rpartition(":")[2], "9", 1)))
    path = fetch_model(url)
    assert "Basic" in hub.headers[-1]["authorization"]
    kept = [path.name, path.with_suffix(".json").read_text()]
    assert [model.name for model in cached_models()] == [shown]
    for text in (*messages, *kept, caplog.text, *(entry.name for entry in list_models())):
        assert SECRET not in text
    # The name that is shown will do for what is here already.
    assert local_file(shown) == fetch_model(shown) == path
    assert remove(find_downloadable(shown)) > 0
    assert files_in(cache) == []
    assert waits


def test_secrets_of_a_mirror_are_not_shown(
    hub: Hub, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in (f"ftp://me:{SECRET}@host", f"http://me:{SECRET}@127.0.0.1:9"):
        monkeypatch.setenv("SFISEP_WEIGHTS_URL", address)
        assert SECRET not in error_of(NAME)
    monkeypatch.setenv("SFISEP_WEIGHTS_URL", hub.address.replace("://", f"://me:{SECRET}@"))
    fetch_model(NAME)
    assert all("authorization" in headers for headers in hub.headers[:-1])
    assert waits


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("default", "default"),
        ("a/b/my.safetensors", "b-my"),
        ("a/run-1/best.safetensors", "run-1-best"),
        ("../run-2/best.safetensors", "run-2-best"),
        ("my.safetensors", "{working folder}-my"),
        ("/my.safetensors", "my"),
        ("weights/best_checkpoint", "weights-best_checkpoint"),
        ("..", "model"),
        ("/", "model"),
        ("http://host/x/..", r"model-[0-9a-f]{16}"),
        ("http://me:pw@host/a/my.safetensors?token=x", r"my-[0-9a-f]{16}"),
    ],
)
def test_stems_are_written_below_one_folder(name: str, folder: str) -> None:
    folder = folder.replace("{working folder}", re.escape(Path.cwd().name))
    assert re.fullmatch(folder, folder_name(name))
