"""Images on servers: real ones, each in a process of its own on this machine."""

import concurrent.futures
import contextlib
import io
import re
import shutil
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from components.data.files import open_files
from components.data.sources.catalogue import list_source
from components.data.sources.listing import SourceOptions
from components.errors import InputError

pytestmark = pytest.mark.integration

FTP_SERVER = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

authorizer = DummyAuthorizer()
authorizer.add_anonymous(sys.argv[1])
authorizer.add_user("line3", "s3cret", sys.argv[1])
for closed in sys.argv[3:]:
    authorizer.override_perm("anonymous", closed, "r", recursive=True)
class Handler(FTPHandler):
    auth_failed_timeout = 0.1
    def on_file_sent(self, file):
        if sys.argv[2] == "hang up":
            self.respond("421 good bye")
            self.close_when_done()
Handler.authorizer = authorizer
server = ThreadedFTPServer(("127.0.0.1", 0), Handler)
print("serving on port", server.address[1], flush=True)
server.serve_forever()
"""
WEB_SERVER = """
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print("serving on port", server.server_port, flush=True)
server.serve_forever()
"""
NAMES = ("good/a b.png", "good/lot 1/Prüfling ①.png", "crack/100%#1.png")


def png(level):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def images(tmp_path):
    """Three images in class folders, lists of them, and the same in an archive."""
    root = tmp_path / "parts"
    rows = "".join(f"{name},{name.split('/')[0]},{'masks/m.png' if 'crack' in name else ''}\n" for name in NAMES)
    for level, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(level))
    (root / "masks").mkdir()
    (root / "masks/m.png").write_bytes(png(255))
    (root / "list.csv").write_text(f"path,label,mask\n{rows}", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "parts.zip", "w") as stream:
        for name in NAMES:
            stream.write(root / name, f"inner/{name}")
    return tmp_path


@pytest.fixture
def serve(images):
    """Starts a server of the images; the port it chose."""
    with contextlib.ExitStack() as stack:

        def start(code, *arguments):
            process = subprocess.Popen(
                [sys.executable, "-c", code, images, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            stack.callback(process.wait, 10)
            stack.callback(process.send_signal, signal.SIGKILL)
            stack.callback(process.stdout.close)
            return int(re.search(r"port (\d+)", process.stdout.readline())[1])

        yield start


@pytest.fixture
def ftp(serve):
    pytest.importorskip("pyftpdlib")
    return f"ftp://127.0.0.1:{serve(FTP_SERVER, 'stay')}"


@pytest.fixture
def options(tmp_path):
    def make(**changes):
        values = {
            "path_column": "path",
            "label_column": "label",
            "group_column": None,
            "split_column": None,
            "mask_column": None,
            "confidence_column": None,
            "metadata_columns": (),
            "root": None,
            "defect_threshold": 0.5,
            "cache_dir": tmp_path / "cache",
        }
        return SourceOptions(**(values | changes))

    return make


def check(listing, images):
    """The listing has the three images, and each thread reads the right bytes."""
    paths = listing.table["path"].tolist()
    assert paths == sorted(NAMES)
    assert listing.table["label"].tolist() == ["crack", "good", "good"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(listing.files.read, paths * 8))
    assert found == [(images / "parts" / path).read_bytes() for path in paths] * 8
    stamps = listing.files.stamps([*paths, "gone.png"])
    sizes = [(images / "parts" / path).stat().st_size for path in paths]
    assert [None if stamp is None else stamp.size for stamp in stamps] == [*sizes, None]
    return stamps


def test_class_folders_are_listed_and_read_by_ftp(images, ftp, options):
    shutil.rmtree(images / "parts/masks")
    stamps = check(list_source(f"folder:{ftp}/parts", options()), images)
    assert all(stamp.mark for stamp in stamps[:3])
    assert stamps[0].modified == int((images / "parts" / sorted(NAMES)[0]).stat().st_mtime)  # FTP has whole seconds


def test_the_root_of_a_server_is_a_root(images, ftp, options):
    shutil.rmtree(images / "parts/masks")
    listing = list_source(f"folder:{ftp}/", options())
    assert listing.table["path"].tolist() == sorted(f"parts/{name}" for name in NAMES)
    assert listing.files.read(f"parts/{NAMES[0]}") == (images / "parts" / NAMES[0]).read_bytes()


def test_a_table_and_its_images_and_masks_are_read_by_ftp(images, ftp, options):
    listing = list_source(f"csv:{ftp}/parts/list.csv", options(mask_column="mask"))
    check(listing, images)
    assert listing.table["mask"].tolist() == ["masks/m.png", None, None]
    shutil.move(images / "parts/list.csv", images / "list.csv")
    check(list_source(f"csv:{images / 'list.csv'}", options(root=f"{ftp}/parts")), images)


@pytest.mark.parametrize("address", ["zip://inner::{ftp}/parts.zip", "zip://inner::simplecache::{ftp}/parts.zip"])
def test_an_archive_on_a_server_is_read(images, ftp, options, address):
    check(list_source(f"folder:{address.format(ftp=ftp)}", options()), images)


def test_users_log_in_and_their_password_is_never_shown(images, ftp, options):
    shutil.rmtree(images / "parts/masks")
    known = ftp.replace("://", "://line3:s3cret@")
    listing = list_source(f"folder:{known}/parts", options())
    check(listing, images)
    assert "s3cret" not in f"{listing} {listing.files} {listing.files.name}"
    with pytest.raises(InputError, match=r"'folder:ftp://…@127.*cannot be opened.*530") as caught:
        list_source(f"folder:{ftp.replace('://', '://line3:wr0ng@')}/parts", options())
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize("folder", ["good", "good/lot 1"])
def test_a_folder_that_the_server_may_not_list_is_refused_and_not_skipped(images, serve, options, folder):
    pytest.importorskip("pyftpdlib")
    port = serve(FTP_SERVER, "stay", images / "parts" / folder)
    with pytest.raises(InputError, match=rf"/parts/{folder} cannot be listed"):
        list_source(f"folder:ftp://127.0.0.1:{port}/parts", options())


def test_a_server_that_hangs_up_is_called_again(images, serve):
    pytest.importorskip("pyftpdlib")
    files = open_files(f"ftp://127.0.0.1:{serve(FTP_SERVER, 'hang up')}/parts", key="data.root")
    for name in NAMES:
        assert files.read(name) == (images / "parts" / name).read_bytes()  # then the server says 421 and closes


def test_a_file_that_vanishes_from_a_server_is_an_os_error(images, ftp):
    files = open_files(f"{ftp}/parts", key="data.root")
    assert NAMES[0] in dict(files.walk())
    (images / "parts" / NAMES[0]).unlink()
    with pytest.raises(FileNotFoundError):
        files.read(NAMES[0])
    assert NAMES[0] not in dict(files.walk())


def test_a_web_server_is_read_with_and_without_an_index(images, serve, options):
    pytest.importorskip("aiohttp")
    web = f"http://127.0.0.1:{serve(WEB_SERVER)}"
    stamps = check(list_source(f"csv:{web}/parts/list.csv", options()), images)
    assert stamps[0].modified == int((images / "parts" / sorted(NAMES)[0]).stat().st_mtime)
    shutil.rmtree(images / "parts/masks")
    check(list_source(f"folder:{web}/parts", options()), images)
    (images / "parts/index.html").write_text("nothing to see", encoding="utf-8")
    check(list_source(f"csv:{web}/parts/list.csv", options()), images)
