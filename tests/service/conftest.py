"""What the tests of archiving share: L0s, and stores of three kinds."""

import pytest
import stores


@pytest.fixture(scope="module")
def l0s(tmp_path_factory, kpf):
    return stores.make_l0s(tmp_path_factory.mktemp("l0s"), kpf)


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    with stores.ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture(scope="module")
def s3():
    with stores.s3_server() as server:
        yield server


@pytest.fixture
def make_store(request, tmp_path, monkeypatch):
    """Return what makes an empty store of a kind, which this process and others may use."""

    def make(kind):
        if kind == "s3":
            store = stores.bucket(request.getfixturevalue("s3"))
        else:
            root = tmp_path / "archive"
            root.mkdir()
            url, environ = str(root), {}
            if kind == "sftp":
                port, home = request.getfixturevalue("ssh")
                url, environ = f"sftp://127.0.0.1:{port}{root}", {"HOME": str(home)}
            store = stores.in_directory(root, url, environ)
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        for name, value in store.environ.items():
            monkeypatch.setenv(name, value)
        return store

    return make
