"""Files on this machine and behind addresses: what is read, what is refused, and what a message shows."""

import concurrent.futures
import math
import multiprocessing
import os
import pickle
import tarfile
import threading
import zipfile

import fsspec
import pytest

from components.data import remote
from components.data.files import Files, open_files, redact, split_address
from components.errors import InputError

NAMES = ("a b.png", "good/Prüfling 画像 ①.png", "good/ä/100%#?.png", "z.png")


@pytest.fixture
def memory():
    """An address in memory, which belongs to this test alone."""
    address = f"memory://{os.urandom(8).hex()}"
    system = fsspec.filesystem("memory")
    yield address
    system.rm(address.removeprefix("memory:/"), recursive=True)


@pytest.fixture
def stored(memory):
    system = fsspec.filesystem("memory")
    for name in NAMES:
        system.pipe_file(f"{memory.removeprefix('memory:/')}/{name}", name.encode())
    return memory


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "my archive.zip"
    with zipfile.ZipFile(path, "w") as stream:
        for name in NAMES:
            stream.writestr(f"images/{name}", name)
        stream.writestr("top.txt", "top")
    return path


def read_all(files):
    return {path: files.read(path).decode() for path, _ in files.walk()}


# This machine


def test_a_local_file_is_read_whatever_its_name(tmp_path):
    files = open_files(str(tmp_path), key="data.root")
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
        assert files.read(name) == name.encode()


@pytest.mark.timeout(60)
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(OSError, match="not a file"):
        Files(str(tmp_path)).read("a.png")
    assert Files(str(tmp_path)).stamps(["a.png"]) == [None]


def test_a_folder_named_like_an_image_is_no_file(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match=r"directory|not a file"):
        Files(str(tmp_path)).read("a.png")
    assert Files(str(tmp_path)).stamps(["a.png"]) == [None]


def test_a_file_that_vanishes_is_an_os_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    files = Files(str(tmp_path))
    (stamp,) = files.stamps(["a.png"])
    assert stamp.size == 1
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError):
        files.read("a.png")
    assert files.stamps(["a.png"]) == [None]


@pytest.mark.parametrize("path", ["a\0b.png", "\ud800.png"])
def test_a_path_that_no_file_can_have_is_an_os_error(tmp_path, path):
    with pytest.raises(OSError, match="cannot be the path of a file"):
        Files(str(tmp_path)).read(path)
    assert Files(str(tmp_path)).stamps([path]) == [None]


def test_a_link_in_a_circle_is_an_os_error(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(OSError, match="symbolic links"):
        Files(str(tmp_path)).read("a.png")
    assert Files(str(tmp_path)).stamps(["a.png"]) == [None]


def test_a_stamp_follows_a_change_that_keeps_size_and_time(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    os.utime(path, ns=(0, 1_500_000_000))
    (before,) = Files(str(tmp_path)).stamps(["a.png"])
    changed = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == changed:  # some systems' clock ticks every few milliseconds
        path.write_bytes(b"y")
        os.utime(path, ns=(0, 1_500_000_000))
    (after,) = Files(str(tmp_path)).stamps(["a.png"])
    assert (before.size, before.modified) == (after.size, after.modified) == (1, 1.5)
    assert before.mark != after.mark


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "local://{}"])
def test_a_local_root_has_one_form(tmp_path, form):
    files = open_files(form.format(tmp_path), key="data.root")
    assert files == Files(str(tmp_path.resolve()))
    assert files.is_local


@pytest.mark.parametrize("address", ["/nowhere/at/all", "~nobody-of-this-name/x", "nul\0", "file:///nowhere/at/all"])
def test_a_local_root_that_is_no_folder_is_refused(address):
    with pytest.raises(InputError, match=r"data\.root=.* is not a folder"):
        open_files(address, key="data.root")


def test_a_local_root_is_not_walked_without_a_look_at_its_links(tmp_path):
    with pytest.raises(ValueError, match="on this machine"):
        list(Files(str(tmp_path)).walk())


# Addresses


def test_an_address_is_walked_in_order_and_read(stored):
    files = open_files(stored, key="data.root")
    assert [path for path, _ in files.walk()] == sorted(NAMES)
    assert read_all(files) == {name: name for name in NAMES}
    assert not files.is_local
    with pytest.raises(ValueError, match="not on this machine"):
        files.local("a b.png")


def test_the_root_of_a_place_is_a_root(stored):
    whole = open_files("memory://", key="data.root")
    folder = stored.removeprefix("memory://")
    assert f"{folder}/a b.png" in dict(whole.walk())
    assert whole.read(f"{folder}/a b.png") == b"a b.png"


@pytest.mark.parametrize("inside", ["images", "images/", "/images"])
def test_a_folder_in_an_archive_is_read(archive, inside):
    files = open_files(f"zip://{inside}::{archive}", key="data.root")
    assert read_all(files) == {name: name for name in NAMES}


@pytest.mark.parametrize("address", ["zip://::{}", "simplecache::zip://::{}", "zip://::simplecache::file://{}"])
def test_the_root_of_an_archive_is_read(archive, address):
    files = open_files(address.format(archive), key="data.root")
    assert read_all(files) == {f"images/{name}": name for name in NAMES} | {"top.txt": "top"}


def test_a_tar_archive_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with tarfile.open(tmp_path / "set.tar", "w") as stream:
        stream.add(tmp_path / "a.png", "good/a.png")
    assert read_all(open_files(f"tar://::{tmp_path / 'set.tar'}", key="data.root")) == {"good/a.png": "x"}


def test_an_archive_is_found_from_another_working_directory(archive, monkeypatch):
    monkeypatch.chdir(archive.parent)
    files = open_files(f"zip://images::{archive.name}", key="data.root")
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(files)).read("a b.png") == b"a b.png"


def test_an_archive_that_was_replaced_is_read_anew(archive):
    files = open_files(f"zip://::{archive}", key="data.root")
    assert len(read_all(files)) == 5
    archive.unlink()
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("b.png", "other")
    assert read_all(files) == {"b.png": "other"}


def test_a_cache_keeps_what_was_read(stored):
    files = open_files(f"simplecache::{stored}", key="data.root")
    assert read_all(files) == {name: name for name in NAMES}
    fsspec.filesystem("memory").pipe_file(f"{stored.removeprefix('memory:/')}/z.png", b"changed")
    assert files.read("z.png") == b"z.png"


@pytest.mark.parametrize("address", ["{stored}", "simplecache::{stored}", "zip://images::{archive}", "tar://::{tar}"])
def test_many_threads_read_the_right_bytes(stored, archive, tmp_path, address):
    with tarfile.open(tmp_path / "set.tar", "w") as stream:
        for name in NAMES:
            (tmp_path / "one").write_bytes(name.encode())
            stream.add(tmp_path / "one", name)
    files = open_files(address.format(stored=stored, archive=archive, tar=tmp_path / "set.tar"), key="data.root")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(files.read, NAMES * 50))
    assert found == [name.encode() for name in NAMES] * 50


def test_each_thread_has_a_connection_of_its_own_and_a_cache_is_shared(archive):
    def connections(uri):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            barrier = threading.Barrier(2)
            asked = [pool.submit(lambda: (barrier.wait(5), remote._connect(uri, anew=False))[1]) for _ in range(2)]
            return {id(future.result().system) for future in asked}

    assert len(connections(f"zip://::{archive}")) == 2
    assert len(connections(f"simplecache::zip://::{archive}")) == 1


def test_a_forked_process_opens_a_connection_of_its_own(archive):
    uri = open_files(f"zip://::{archive}", key="data.root").uri
    before = remote._connect(uri, anew=False)

    def ask(queue):
        queue.put(remote._connect(uri, anew=False) is before)

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=ask, args=(queue,))
    child.start()
    assert queue.get() is False
    child.join()


def test_a_missing_file_of_a_place_is_an_os_error(stored, archive):
    for address in (stored, f"zip://::{archive}"):
        files = open_files(address, key="data.root")
        with pytest.raises(FileNotFoundError, match="no such file"):
            files.read("gone.png")
        assert files.stamps(["gone.png"]) == [None]


class _Unsteady:
    """A driver whose connection has been closed by the server."""

    def __init__(self, *failures):
        self.failures = list(failures)

    def cat_file(self, name):
        if self.failures:
            raise self.failures.pop(0)
        return name.encode()


@pytest.fixture
def unsteady(monkeypatch):
    def make(*failures):
        driver = _Unsteady(*failures)
        monkeypatch.setattr(remote.fsspec.core, "url_to_fs", lambda _uri: (driver, "/place"))
        return Files(f"unsteady://{os.urandom(4).hex()}")

    return make


def test_a_lost_connection_is_opened_again_once(unsteady):
    assert unsteady(EOFError()).read("a.png") == b"/place/a.png"
    with pytest.raises(OSError, match="timed out"):
        unsteady(EOFError(), TimeoutError("timed out")).read("a.png")


def test_what_no_second_try_can_mend_is_not_tried_again(unsteady):
    for failure in (FileNotFoundError("a.png"), PermissionError(13, "no"), zipfile.BadZipFile("bad CRC")):
        files = unsteady(failure, AssertionError("asked again"))
        with pytest.raises(OSError, match=r"no such file|no|bad CRC"):
            files.read("a.png")


def test_a_damaged_member_of_an_archive_is_an_os_error(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as stream:
        stream.writestr("a.png", b"12345678")
    path.write_bytes(path.read_bytes().replace(b"12345678", b"12345679"))
    with pytest.raises(OSError, match="BadZipFile: Bad CRC-32"):
        open_files(f"zip://::{path}", key="data.root").read("a.png")


def test_a_link_of_a_server_is_refused(unsteady, monkeypatch):
    files = unsteady()
    listed = {"/place/a.png": {"type": "file"}, "/place/b.png": {"type": "link"}}
    monkeypatch.setattr(_Unsteady, "find", lambda _self, _root, **_how: listed, raising=False)
    monkeypatch.setattr(_Unsteady, "invalidate_cache", lambda _self: None, raising=False)
    with pytest.raises(OSError, match=r"/place/b\.png is a link"):
        list(files.walk())


def test_a_web_server_is_asked_for_each_file_and_one_that_does_not_answer_is_a_fault(monkeypatch):
    class Response(Exception):  # noqa: N818  as aiohttp's
        def __init__(self, status):
            self.status = status

    class Web:
        def info(self, name):
            if name.endswith("there.png"):
                return {"name": name, "size": 3, "ETag": "x"}
            raise FileNotFoundError(name) from (TimeoutError() if "slow" in name else Response(403))

    monkeypatch.setattr(remote.fsspec.core, "url_to_fs", lambda uri: (Web(), uri))
    files = Files(f"https://host/{os.urandom(4).hex()}?sig=secret")
    stamp, forbidden = files.stamps(["there.png", "forbidden.png"])
    assert (stamp.size, stamp.mark, forbidden) == (3, "ETag=x", None)
    with pytest.raises(InputError, match=r"https://host/\w+\?… cannot be listed") as caught:
        files.stamps(["slow.png"])
    assert "secret" not in str(caught.value)


def test_the_stamps_of_an_archive_are_its_sums_and_times(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as stream:
        stream.writestr(zipfile.ZipInfo("a.png", (2020, 1, 2, 0, 0, 0)), b"123")
    files = open_files(f"zip://::{tmp_path / 'x.zip'}", key="data.root")
    stamp, missing = files.stamps(["a.png", "b.png"])
    assert (stamp.size, stamp.modified, missing) == (3, 1577923200.0, None)  # date -u -d 2020-01-02 +%s
    assert "CRC=2286445522" in stamp.mark  # python -c 'import zlib; print(zlib.crc32(b"123"))'


@pytest.mark.parametrize(
    ("details", "modified"),
    [
        ({"modify": "20200102000000"}, 1577923200.0),
        ({"modify": "20200102000000.123"}, 1577923200.0),
        ({"Last-Modified": "Thu, 02 Jan 2020 00:00:00 GMT"}, 1577923200.0),
        ({"mtime": 5}, 5.0),
        ({"mtime": "yesterday"}, math.nan),
        ({"date_time": (1980, 0, 0, 0, 0, 0)}, math.nan),
        ({}, math.nan),
    ],
)
def test_times_are_read_as_drivers_write_them(unsteady, monkeypatch, details, modified):
    files = unsteady()
    listed = {"/place/a.png": {"type": "file", "size": None, **details}}
    monkeypatch.setattr(_Unsteady, "find", lambda _self, _root, **_how: listed, raising=False)
    monkeypatch.setattr(_Unsteady, "invalidate_cache", lambda _self: None, raising=False)
    ((path, stamp),) = files.walk()
    assert (path, stamp.size) == ("a.png", 0)
    assert stamp.modified == pytest.approx(modified, nan_ok=True)
    assert bool(stamp.mark) == bool(details)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nosuchscheme://x/y", "cannot be opened.*nosuchscheme"),
        ("memory://nowhere/at/all", "holds no such folder"),
        ("zip://::/nowhere/at/all.zip", "holds no such folder"),
        ("zip://inside::{archive}", "holds no such folder"),
        ("zip://images/a b.png::{archive}", "holds no such folder"),
        ("zip://::{text}", "cannot be opened.*not a zip file"),
        ("ftp://me:secret@127.0.0.1:1/x", r"data\.root='ftp://…@127\.0\.0\.1:1/x' cannot be opened.*refused"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(archive, address, reason):
    text = archive.parent / "text.zip"
    text.write_text("no archive", encoding="utf-8")
    with pytest.raises(InputError, match=reason) as caught:
        open_files(address.format(archive=archive, text=text), key="data.root")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/plain/a@b", "/plain/a@b"),
        ("s3://bucket/a@b/x", "s3://bucket/a@b/x"),
        ("ftp://me:secret@host:21/x", "ftp://…@host:21/x"),
        ("ftp://me:s@cret@host/x", "ftp://…@host/x"),
        ("zip://a/b@c::ftp://me:secret@host/x.zip", "zip://a/b@c::ftp://…@host/x.zip"),
        ("https://host/x?sig=secret&se=1", "https://host/x?…"),
    ],
)
def test_credentials_are_left_out_of_names(text, shown):
    assert redact(text) == shown
    assert Files(text).name == shown
    assert "cret" not in repr(Files(text))


def test_a_drivers_message_does_not_show_the_password_nor_does_its_traceback(unsteady):
    unsteady(ValueError("login of me with s3cr t failed"))
    with pytest.raises(OSError, match="login of me with … failed") as caught:
        Files("unsteady://me:s3cr%20t@host/x").read("a.png")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("address", "folder", "name"),
    [
        ("table.csv", ".", "table.csv"),
        ("/data/table.csv", "/data", "table.csv"),
        ("file:///data/table.csv", "/data", "table.csv"),
        ("s3://bucket/x/table.csv", "s3://bucket/x", "table.csv"),
        ("zip://lists/table.csv::/data/x.zip", "zip://lists::/data/x.zip", "table.csv"),
        ("zip://table.csv::/data/x.zip", "zip://::/data/x.zip", "table.csv"),
        ("simplecache::s3://bucket/table.csv", "simplecache::s3://bucket", "table.csv"),
        ("zip://::/data/x.zip", "zip://::/data/x.zip", ""),
    ],
)
def test_an_address_is_split_into_folder_and_name(address, folder, name):
    assert split_address(address) == (folder, name)
