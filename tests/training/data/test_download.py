import hashlib
import io
import json
import re
import shutil
import struct
import subprocess
import threading
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from training.__main__ import main
from training.data.download import PROVENANCE, SOURCES, DownloadError, download, unpack

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY_VIT = "tiny_vit_21m_384.dist_in22k_ft_in1k"


class Hub(BaseHTTPRequestHandler):
    """The part of the Hugging Face hub's HTTP interface that a download uses, for one repository."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub, *args):
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        kind = "datasets/" if self.hub.kind == "dataset" else ""
        repository = f"/{kind}{self.hub.repository}/resolve/"
        api = f"/api/{self.hub.kind}s/{self.hub.repository}/"
        if path.startswith(repository):
            revision, _, name = path.removeprefix(repository).partition("/")
            self.file(revision, name)
        elif path.startswith(api):
            what, _, revision = path.removeprefix(api).partition("/")
            if revision not in ("main", COMMIT):
                self.answer(404, {"X-Error-Code": "RevisionNotFound"})
            elif what == "revision":
                siblings = [
                    {"rfilename": name, "size": len(data), "blobId": "0" * 40}
                    | (
                        {"lfs": {"size": len(data), "sha256": sha256(data), "pointerSize": 134}}
                        if len(data) > 99
                        else {}
                    )
                    for name, data in self.hub.files.items()
                ]
                self.json({"id": self.hub.repository, "sha": COMMIT, "siblings": siblings})
            else:
                self.json(
                    [
                        {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                        for name, data in self.hub.files.items()
                    ]
                )
        else:
            self.answer(404, {"X-Error-Code": "RepoNotFound"})

    def file(self, revision, name):
        data = self.hub.files.get(name)
        if name in self.hub.lost or data is None or revision != COMMIT:
            self.answer(404, {"X-Error-Code": "EntryNotFound"})
            return
        data = self.hub.altered.get(name, data)
        headers = {"ETag": f'"{sha256(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        stop = self.hub.breaks.pop(name, None) if self.command == "GET" else None
        self.answer(206 if start else 200, headers, data[start:], stop)

    def json(self, value):
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def answer(self, status, headers, body=b"", stop=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:stop])
        if stop is not None:  # the cable is pulled
            self.wfile.flush()
            self.close_connection = True


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def serve():
    """`serve(name, files)`: a hub on 127.0.0.1 that holds one of SOURCES; `.url`, and knobs for what goes wrong."""
    servers = []

    def start(name, files):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, None))
        server.RequestHandlerClass = partial(Hub, server)
        server.repository, server.kind = SOURCES[name].repository, SOURCES[name].kind
        server.files, server.altered, server.lost, server.breaks, server.requests = files, {}, set(), {}, []
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    """Nothing of the user's own cache or account is touched."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


WEIGHTS = np.random.default_rng(0).bytes(3_000_000)


def weights():
    return {"model.safetensors": WEIGHTS, "config.json": b"{}", "pytorch_model.bin": b"x" * 1000, "README.md": b"#"}


# --- fetching -------------------------------------------------------------------------------------------------------


def test_weights_with_their_provenance(serve, tmp_path):
    hub = serve(TINY_VIT, weights())
    provenance = download(TINY_VIT, tmp_path / "out", endpoint=hub.url)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == WEIGHTS
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()  # only what is needed
    assert json.loads((tmp_path / "out" / PROVENANCE).read_text()) == provenance
    assert (provenance["repository"], provenance["commit"], provenance["revision"]) == (
        f"timm/{TINY_VIT}",
        COMMIT,
        "main",
    )
    assert provenance["files"] == {
        "config.json": {"bytes": 2, "sha256": sha256(b"{}")},
        "model.safetensors": {"bytes": 3_000_000, "sha256": sha256(WEIGHTS)},
    }


def test_a_broken_connection_is_taken_up_where_it_broke(serve, tmp_path):
    data = WEIGHTS * 5
    hub = serve(TINY_VIT, {**weights(), "model.safetensors": data})
    hub.breaks["model.safetensors"] = 12_000_000
    download(TINY_VIT, tmp_path / "out", endpoint=hub.url)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == data
    ranges = [span for method, path, span in hub.requests if method == "GET" and path.endswith("model.safetensors")]
    assert ranges == [None, f"bytes={10 * 2**20}-"]  # huggingface_hub writes pieces of 10 MiB


def test_whole_files_are_not_fetched_again(serve, tmp_path):
    hub = serve(TINY_VIT, weights())
    download(TINY_VIT, tmp_path / "out", endpoint=hub.url)
    (tmp_path / "out" / "config.json").unlink()
    hub.requests.clear()
    download(TINY_VIT, tmp_path / "out", endpoint=hub.url, revision=COMMIT)
    fetched = [path.rpartition("/")[2] for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path]
    assert fetched == ["config.json"]


def test_a_file_that_is_not_what_the_hub_states(serve, tmp_path):
    hub = serve(TINY_VIT, weights())
    hub.altered["model.safetensors"] = WEIGHTS[:-1] + b"!"
    with pytest.raises(DownloadError, match=rf"model\.safetensors: sha256 .* the hub states {sha256(WEIGHTS)}"):
        download(TINY_VIT, tmp_path / "out", endpoint=hub.url)
    assert not (tmp_path / "out" / PROVENANCE).exists()


def test_no_connection(tmp_path, capsys):
    with pytest.raises(DownloadError, match=r"cannot be reached \(ConnectError: .*refused"):
        download(TINY_VIT, tmp_path / "out", endpoint="http://127.0.0.1:9")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "something").write_text("x")  # huggingface_hub alone would now pretend success
    assert main(["download", "psmm", "--out", str(tmp_path / "out"), "--endpoint", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m training: error: yo3nglau/PSMM (revision main) at http://127.0.0.1:9: cannot be")
    assert error.count("\n") == 1


def test_a_file_that_is_listed_but_not_served(serve, tmp_path):
    hub = serve(TINY_VIT, weights())
    hub.lost.add("model.safetensors")
    with pytest.raises(DownloadError, match="the hub answers with status 404"):
        download(TINY_VIT, tmp_path / "out", endpoint=hub.url)
    assert not (tmp_path / "out" / PROVENANCE).exists()


def test_what_is_not_there(serve, tmp_path):
    hub = serve(TINY_VIT, weights())
    with pytest.raises(DownloadError, match=r"tiny_vit_21m_384.* \(revision v9\) at .*: no such revision"):
        download(TINY_VIT, tmp_path, revision="v9", endpoint=hub.url)
    with pytest.raises(DownloadError, match=r"yo3nglau/PSMM .*: no such repository"):
        download("psmm", tmp_path, endpoint=hub.url)
    with pytest.raises(DownloadError, match=r"expected one of psmm, tiny_vit_5m_224.*Received: 'resnet50'"):
        download("resnet50", tmp_path, endpoint=hub.url)
    hub.files = {"README.md": b"moved"}
    with pytest.raises(DownloadError, match=r"has no model\.safetensors; found: README\.md"):
        download(TINY_VIT, tmp_path, endpoint=hub.url)


def test_a_disk_that_is_too_small(serve, tmp_path, monkeypatch):
    hub = serve(TINY_VIT, weights())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=2_000_000))
    with pytest.raises(DownloadError, match="3 MB are needed, 2 MB are free"):
        download(TINY_VIT, tmp_path / "out", endpoint=hub.url)
    assert not (tmp_path / "out" / "model.safetensors").exists()


# --- unpacking ------------------------------------------------------------------------------------------------------

IMAGES = {f"SUSTech-{k}_1.jpg": np.random.default_rng(k).bytes(20_000 + k) for k in range(12)}


def zipped(entries, prefix="JPEGImages/"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("JPEGImages")
        for name, data in entries.items():
            archive.writestr(prefix + name, data)
    return file.getvalue()


def info_zip_split(data, size):
    """A zip archive cut as Info-ZIP does it: every offset counts from the start of its part (APPNOTE.TXT 8.0)."""
    end = data.rindex(b"PK\5\6")
    count, _, start = struct.unpack_from("<HII", data, end + 10)
    body, directory, tail = data[:start], bytearray(data[start:end]), bytearray(data[end:])
    at = 0
    for _ in range(count):
        name, extra, comment = struct.unpack_from("<3H", directory, at + 28)
        (offset,) = struct.unpack_from("<I", directory, at + 42)
        struct.pack_into("<H", directory, at + 34, offset // size)
        struct.pack_into("<I", directory, at + 42, offset % size)
        at += 46 + name + extra + comment
    struct.pack_into("<2H", tail, 4, (len(data) - 1) // size, start // size)
    struct.pack_into("<I", tail, 16, start % size)
    data = body + directory + tail
    return [data[k : k + size] for k in range(0, len(data), size)]


def write_parts(folder, parts, split=True):
    folder.mkdir(parents=True, exist_ok=True)
    for k, part in enumerate(parts, 1):
        name = (
            f"JPEGImages.zip.{k:03d}" if not split else "JPEGImages.zip" if k == len(parts) else f"JPEGImages.z{k:02d}"
        )
        (folder / name).write_bytes(part)


def unpacked(folder):
    return {path.name: path.read_bytes() for path in (folder / "JPEGImages").iterdir()}


@pytest.mark.parametrize("size", [7_001, 30_000, 100_000, 10**6])
def test_an_archive_split_as_info_zip_does(tmp_path, size):
    parts = info_zip_split(zipped(IMAGES), size)
    write_parts(tmp_path / "deep" / "PSMM", parts)
    assert unpack(tmp_path) == tmp_path / "deep" / "PSMM"
    assert unpacked(tmp_path / "deep" / "PSMM") == IMAGES
    assert len(list((tmp_path / "deep" / "PSMM").iterdir())) == len(parts) + 1  # nothing was joined on disk


@pytest.mark.parametrize("size", [7_001, 10**6])
def test_an_archive_cut_into_pieces(tmp_path, size):
    data = zipped(IMAGES, prefix="")
    write_parts(tmp_path, [data[k : k + size] for k in range(0, len(data), size)], split=False)
    unpack(tmp_path)
    assert unpacked(tmp_path) == IMAGES


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP is not installed")
def test_info_zip_itself(tmp_path):
    source = tmp_path / "source" / "JPEGImages"
    source.mkdir(parents=True)
    for name, data in IMAGES.items():
        (source / name).write_bytes(data)
    (tmp_path / "PSMM").mkdir()
    subprocess.run(
        ["zip", "-q", "-r", "-s", "64k", str(tmp_path / "PSMM" / "JPEGImages.zip"), "JPEGImages"],
        cwd=tmp_path / "source",
        check=True,
    )
    assert len(list((tmp_path / "PSMM").iterdir())) == 4
    unpack(tmp_path / "PSMM")
    assert unpacked(tmp_path / "PSMM") == IMAGES


def test_unpacking_goes_on(tmp_path):
    write_parts(tmp_path, info_zip_split(zipped(IMAGES), 50_000))
    unpack(tmp_path)
    first, second, *_ = sorted((tmp_path / "JPEGImages").iterdir())
    first.unlink()
    second.write_bytes(b"half")
    untouched = {path: path.stat().st_mtime_ns for path in (tmp_path / "JPEGImages").iterdir() if path != second}
    unpack(tmp_path)
    assert unpacked(tmp_path) == IMAGES
    assert {path: path.stat().st_mtime_ns for path in untouched} == untouched


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/tmp/evil.jpg", "JPEGImages/../../evil.jpg", "..\\evil.jpg", "JPEGImages/..\\..\\evil.jpg"]
)
def test_paths_that_lead_elsewhere(tmp_path, name):
    write_parts(tmp_path / "in", [zipped({"good.jpg": b"x", name: b"x"}, "")])
    with pytest.raises(DataSetError, match="leads out of its folder; nothing was unpacked"):
        unpack(tmp_path / "in")
    assert not list(tmp_path.rglob("evil*"))
    assert not (tmp_path / "in" / "JPEGImages").exists()


def test_links(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        link = zipfile.ZipInfo("JPEGImages/link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    write_parts(tmp_path, [file.getvalue()])
    with pytest.raises(DataSetError, match="leads out of its folder"):
        unpack(tmp_path)


def damaged(data):
    at = data.index(IMAGES["SUSTech-3_1.jpg"][:50]) if IMAGES["SUSTech-3_1.jpg"][:50] in data else len(data) // 3
    return data[:at] + bytes(64) + data[at + 64 :]


@pytest.mark.parametrize(
    ("parts", "split", "message"),
    [
        ([], True, "no JPEGImages.zip, with its parts, was found"),
        (info_zip_split(zipped(IMAGES), 60_000)[1:], True, "is the last of 5 parts; found 4"),
        (
            [b"PK", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"],
            True,
            "only a Git LFS pointer",
        ),
        ([b"hello"], True, "not a zip archive"),
        ([damaged(zipped(IMAGES))], True, "the archive is damaged"),
        ([zipped({"notes.txt": b"x"})], True, "holds no image"),
        ([zipped({"a/x.jpg": b"x", "b/x.jpg": b"y"})], True, "holds 'JPEGImages/a/x.jpg' and 'JPEGImages/b/x.jpg'"),
    ],
)
def test_archives_that_are_not_what_they_should_be(tmp_path, parts, split, message):
    write_parts(tmp_path, parts, split)
    with pytest.raises(DataSetError, match=re.escape(message)):
        unpack(tmp_path)
    assert not list(tmp_path.glob("JPEGImages/*.part"))


def test_missing_parts(tmp_path):
    write_parts(tmp_path, info_zip_split(zipped(IMAGES), 60_000))
    (tmp_path / "JPEGImages.z02").rename(tmp_path / "elsewhere")
    with pytest.raises(DataSetError, match=r"part 02 of JPEGImages\.zip is missing; found JPEGImages\.z03"):
        unpack(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "JPEGImages.z02")
    (tmp_path / "JPEGImages.zip").unlink()
    with pytest.raises(DataSetError, match=r"JPEGImages\.zip: is missing; it is the last part"):
        unpack(tmp_path)


# --- command --------------------------------------------------------------------------------------------------------


def test_the_data_set_from_the_hub_to_its_images(serve, tmp_path, capsys):
    parts = info_zip_split(zipped(IMAGES), 100_000)
    files = {"JPEGImages.zip": parts[-1], "README.md": b"PSMM", "ImageSets/Main/val.csv": b"S0,S1\n"}
    files |= {f"JPEGImages.z{k:02d}": part for k, part in enumerate(parts[:-1], 1)}
    hub = serve("psmm", files)
    out = tmp_path / "PSMM"
    assert main(["download", "psmm", "--out", str(out), "--endpoint", hub.url]) == 0
    assert unpacked(out) == IMAGES
    assert (out / "ImageSets" / "Main" / "val.csv").read_bytes() == b"S0,S1\n"
    printed = capsys.readouterr().out
    assert f"{len(files)} files of commit {COMMIT}" in printed
    assert f"next: python -m training check {out}" in printed

    shutil.rmtree(out / "JPEGImages")
    assert main(["download", "psmm", "--out", str(out), "--unpack-only"]) == 0
    assert unpacked(out) == IMAGES
    assert main(["download", TINY_VIT, "--out", str(out), "--unpack-only"]) == 2
