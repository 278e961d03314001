from __future__ import annotations

import dataclasses
import hashlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from test_keras_import import STANDARD_LAYERS, UNET_LAYERS, randomised, write_snapshot

from bids_segsr.cli.segsr import main
from bids_segsr.exceptions import ModelError
from bids_segsr.zoo import fetch as fetching
from bids_segsr.zoo.fetch import fetch, git_blob_id
from bids_segsr.zoo.find import card_paths, find_card, load_model, local_folder
from bids_segsr.zoo.released import RELEASED

NAME = 'segsrgan-dhcp'
FILE = RELEASED[NAME].file


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; `server.cuts` says after how many bytes the next answers break."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        content = server.files.get(self.path.removeprefix('http://weights.invalid'))
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        if content is None:
            self.send_error(404)
            return
        start = 0
        wanted = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
        if wanted and server.ranges:
            start = int(wanted[1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        else:
            self.send_response(200)
        self.send_header('Content-Length', str(server.claimed or len(content) - start))
        self.end_headers()
        if server.dribbles:
            for number in range(start, start + 100):
                self.wfile.write(content[number : number + 1])
                time.sleep(0.05)
        cut = server.cuts.pop(0) if server.cuts else len(content)
        self.wfile.write(content[start : start + cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(files):
        server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        server.files = {f'/{name}': content for name, content in files.items()}
        server.requests, server.cuts, server.statuses = [], [], []
        server.ranges, server.claimed, server.dribbles = True, None, False
        server.url = f'http://127.0.0.1:{server.server_port}'
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope='module')
def snapshot(tmp_path_factory):
    path = tmp_path_factory.mktemp('snapshot') / 'w'
    return write_snapshot(path, randomised('segsrgan')).read_bytes()


@pytest.fixture(autouse=True)
def closed_world(monkeypatch, tmp_path, snapshot):
    """No test leaves this machine, waits, or writes to the user's cache."""
    for name in ('http_proxy', 'HTTP_PROXY', 'BIDS_SEGSR_MIRRORS', 'BIDS_SEGSR_MODELS'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(fetching, 'PAUSE_S', 0)
    monkeypatch.setattr(fetching, 'REPOSITORY_URL', 'http://127.0.0.1:9/repository')
    monkeypatch.setattr(fetching, 'BLOB_URL', 'http://127.0.0.1:9/blobs')
    release(monkeypatch, snapshot)


def release(monkeypatch, content, name=NAME):
    blob = hashlib.sha1(b'blob %d\0' % len(content) + content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(RELEASED, name, dataclasses.replace(RELEASED[name], blob=blob))


def test_a_server_that_sends_a_byte_now_and_then_is_left(serve, tmp_path, monkeypatch, snapshot):
    """No wait is longer than the timeout of the connection, and yet it would never end."""
    monkeypatch.setattr(fetching, 'LONGEST_S', 1)
    slow, good = serve({FILE: snapshot}), serve({FILE: snapshot})
    slow.dribbles = True
    before = time.monotonic()
    with pytest.raises(ModelError, match=r'too slow, \d+ bytes in 1 s; they are kept'):
        fetch(NAME, tmp_path, [slow.url])
    assert time.monotonic() - before < 4
    assert fetch(NAME, tmp_path, [slow.url, good.url]).is_dir()


def test_blob_id_is_that_of_git(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'hello\n')
    # git hash-object of the same content
    assert git_blob_id(path) == 'ce013625030ba8dba906f756967f9e9ca394464a'


def test_fetched_model_is_found_by_name_with_a_full_card(serve, tmp_path, monkeypatch, snapshot):
    server = serve({FILE: snapshot})
    folder = fetch(NAME, mirrors=[server.url])
    assert folder == local_folder() / NAME == tmp_path / 'cache' / 'bids_segsr' / 'models' / NAME
    assert sorted(p.name for p in folder.iterdir()) == ['card.json', 'weights.safetensors']
    model = load_model(NAME)
    assert model.path.parent == folder
    card = find_card(NAME)
    assert model.card == card
    assert NAME in card_paths()
    assert card.name == NAME
    assert card.contract.modalities == ('T2w',)
    assert card.contract.normalisation == 'volume-max'
    assert card.contract.spacing_mm == (0.5, 0.5)
    assert card.contract.slice_thickness_mm == (3.0, 3.0)
    assert card.contract.skull_stripped
    assert 'CeCILL-B' in card.licence
    assert 'developing Human Connectome Project' in card.licence
    assert 'esearch use only' in card.description
    assert card.training['git_blob'] == RELEASED[NAME].blob
    assert any('SegSRGAN' in line for line in card.citation)
    (tmp_path / 'w').write_bytes(snapshot)
    original = load_model(tmp_path / 'w').network.state_dict()
    for name, tensor in model.network.state_dict().items():
        assert tensor.equal(original[name])


def test_command_prints_the_folder(serve, snapshot, tmp_path, capsys):
    server = serve({FILE: snapshot})
    status = main(['models', 'fetch', NAME, '--output', str(tmp_path), '--mirror', server.url])
    assert status == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / NAME)
    assert (tmp_path / NAME / 'card.json').is_file()


def test_nothing_is_downloaded_twice(serve, snapshot):
    server = serve({FILE: snapshot})
    fetch(NAME, mirrors=[server.url])
    fetch(NAME, mirrors=[server.url])
    assert len(server.requests) == 1


def test_damaged_model_is_fetched_anew(serve, snapshot):
    server = serve({FILE: snapshot})
    weights = fetch(NAME, mirrors=[server.url]) / 'weights.safetensors'
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    fetch(NAME, mirrors=[server.url])
    assert weights.read_bytes() == whole


def test_cut_connection_goes_on_where_it_stopped(serve, snapshot, tmp_path):
    server = serve({FILE: snapshot})
    server.cuts = [100_000, 0, 70_000]
    fetch(NAME, tmp_path / 'models', [server.url])
    starts = [int(h.get('Range', 'bytes=0-')[6:-1]) for _, h in server.requests]
    assert starts[0] == 0
    assert 0 < starts[1] == starts[2] < starts[3] < len(snapshot)
    # A compressed answer has other offsets than the file.
    assert {h['Accept-Encoding'] for _, h in server.requests} == {'identity'}
    assert find_card(tmp_path / 'models' / NAME).name == NAME


def test_download_is_resumed_by_a_later_call(serve, snapshot, tmp_path):
    server = serve({FILE: snapshot})
    server.cuts = [100_000] + [0] * fetching.ATTEMPTS
    with pytest.raises(ModelError, match=r'connection lost at \d+ bytes'):
        fetch(NAME, tmp_path, [server.url])
    server.requests.clear()
    fetch(NAME, tmp_path, [server.url])
    assert len(server.requests) == 1
    assert 'Range' in server.requests[0][1]


def test_server_without_ranges_sends_all_again(serve, snapshot, tmp_path):
    server = serve({FILE: snapshot})
    server.ranges, server.cuts = False, [100_000]
    fetch(NAME, tmp_path, [server.url])
    assert len(server.requests) == 2


def test_server_that_always_breaks_is_given_up(serve, snapshot, tmp_path):
    server = serve({FILE: snapshot})
    server.ranges, server.cuts = False, [150_000, 80_000] * 20
    with pytest.raises(ModelError, match='connection lost'):
        fetch(NAME, tmp_path, [server.url])
    assert len(server.requests) == 1 + fetching.ATTEMPTS


def test_senseless_length_is_refused(serve, snapshot, tmp_path):
    server = serve({FILE: snapshot})
    server.claimed = 'many'
    with pytest.raises(ModelError, match='no proper answer'):
        fetch(NAME, tmp_path, [server.url])


def partial(folder, content):
    path = folder / '.incoming' / f'{RELEASED[NAME].blob}.part'
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize('length', [1000, 2_000_000])
def test_wrong_remainder_of_another_run_is_dropped(serve, snapshot, tmp_path, length):
    partial(tmp_path, b'x' * length)
    server = serve({FILE: snapshot})
    fetch(NAME, tmp_path, [server.url])
    assert len(server.requests) == 2


def test_complete_remainder_needs_no_server(snapshot, tmp_path):
    path = partial(tmp_path, snapshot)
    assert fetch(NAME, tmp_path) == tmp_path / NAME
    assert not path.exists()


def test_corrupted_file_is_removed_and_told_in_one_line(serve, snapshot, tmp_path):
    server = serve({FILE: b'\0' + snapshot[1:]})
    with pytest.raises(ModelError) as caught:
        fetch(NAME, tmp_path, [server.url])
    message = str(caught.value)
    assert '\n' not in message
    assert f'{server.url}/{FILE}' in message
    assert 'git blob id differs); removed' in message
    assert not list(tmp_path.rglob('*.part'))
    assert not (tmp_path / NAME).exists()


def test_missing_file_is_told_with_what_to_do(serve, tmp_path):
    server = serve({})
    with pytest.raises(ModelError, match='HTTP 404') as caught:
        fetch(NAME, tmp_path, [server.url])
    assert '--mirror' in str(caught.value)
    assert len(server.requests) == 1


def test_busy_server_is_asked_again(serve, snapshot, tmp_path):
    server = serve({FILE: snapshot})
    server.statuses = [503, 502]
    fetch(NAME, tmp_path, [server.url])
    assert len(server.requests) == 3


@pytest.mark.parametrize('first', ['missing', 'corrupted', 'cut', 'dead'])
def test_second_mirror_serves_when_the_first_fails(serve, snapshot, tmp_path, monkeypatch, first):
    good = serve({FILE: snapshot})
    bad = serve({} if first == 'missing' else {FILE: bytes(len(snapshot))})
    if first == 'cut':
        bad.cuts = [1000] + [0] * fetching.ATTEMPTS
    url = 'http://127.0.0.1:9' if first == 'dead' else bad.url
    monkeypatch.setenv('BIDS_SEGSR_MIRRORS', f'{url}, {good.url}/')
    assert fetch(NAME, tmp_path) == tmp_path / NAME
    assert good.requests[0][0] == f'/{FILE}'


def test_repository_is_asked_by_name_then_by_content(serve, snapshot, tmp_path, monkeypatch):
    server = serve({f'blobs/{RELEASED[NAME].blob}': snapshot})
    monkeypatch.setattr(fetching, 'REPOSITORY_URL', f'{server.url}/repository')
    monkeypatch.setattr(fetching, 'BLOB_URL', f'{server.url}/blobs')
    fetch(NAME, tmp_path)
    (by_name, _), (by_content, headers) = server.requests
    assert by_name == f'/repository/{FILE}'
    assert by_content.endswith(RELEASED[NAME].blob)
    assert headers['Accept'] == 'application/vnd.github.raw+json'


def test_proxy_of_the_environment_is_used(serve, snapshot, tmp_path, monkeypatch):
    proxy = serve({FILE: snapshot})
    monkeypatch.setenv('http_proxy', proxy.url)
    fetch(NAME, tmp_path, ['http://weights.invalid'])
    assert proxy.requests[0][0] == f'http://weights.invalid/{FILE}'


@pytest.mark.parametrize('claimed', [10**12, None])
def test_oversized_answer_is_refused(serve, tmp_path, monkeypatch, claimed):
    monkeypatch.setattr(fetching, 'DOWNLOAD_LIMIT', 100_000)
    server = serve({FILE: bytes(300_000)})
    server.claimed = claimed
    with pytest.raises(ModelError, match='more than 100000 bytes; removed'):
        fetch(NAME, tmp_path, [server.url])
    assert not list(tmp_path.rglob('*.part'))


def test_right_content_that_is_no_generator_is_refused(serve, tmp_path, monkeypatch):
    release(monkeypatch, b'no weights')
    with pytest.raises(ModelError, match='damaged HDF5'):
        fetch(NAME, tmp_path, [serve({FILE: b'no weights'}).url])
    assert not (tmp_path / NAME).exists()


def test_unet_and_thinner_slices_have_their_own_cards(serve, tmp_path, monkeypatch):
    for name, network, layers in (
        ('segsrgan-dhcp-unet', 'segsrgan-unet', UNET_LAYERS),
        ('segsrgan-dhcp-augmented-2-4mm', 'segsrgan', STANDARD_LAYERS),
    ):
        path = write_snapshot(tmp_path / 'w', randomised(network), layers=layers)
        release(monkeypatch, path.read_bytes(), name)
        fetch(name, tmp_path, [serve({RELEASED[name].file: path.read_bytes()}).url])
        card = find_card(tmp_path / name)
        assert card.architecture == network
        assert card.contract.slice_thickness_mm == RELEASED[name].slice_thickness_mm


def test_conditional_weights_say_that_they_ignore_the_resolution(serve, tmp_path, monkeypatch):
    name = 'segsrgan-dhcp-augmented-2-4mm-conditional'
    network = randomised('segsrgan', conditional='original')
    content = write_snapshot(tmp_path / 'w', network, group='G_cond').read_bytes()
    release(monkeypatch, content, name)
    fetch(name, tmp_path, [serve({RELEASED[name].file: content}).url])
    card = find_card(tmp_path / name)
    assert card.options['conditional'] == 'original'
    assert 'resolution input has no effect' in card.limitations[0]


@pytest.mark.shared
@pytest.mark.parametrize(
    ('name', 'fixture'),
    [
        ('segsrgan-dhcp', 'generator'),
        ('segsrgan-dhcp-unet', 'generator_unet'),
        ('segsrgan-dhcp-augmented-2-4mm-conditional', 'generator_conditional'),
    ],
)
def test_original_weights_give_the_original_output_after_a_broken_download(
    serve, tmp_path, monkeypatch, shared, name, fixture
):
    stem = shared / 'fixtures' / 'segsrgan' / fixture
    content = stem.with_suffix('.weights.h5').read_bytes()
    release(monkeypatch, content, name)
    server = serve({RELEASED[name].file: content})
    server.cuts = [len(content) // 2]
    model = load_model(fetch(name, tmp_path, [server.url]))
    assert len(server.requests) == 2
    expected = np.load(stem.with_suffix('.npz'))
    inputs = [
        torch.from_numpy(expected[key]) for key in ('input', 'resolution') if key in expected
    ]
    with torch.no_grad():
        output = model.network(*inputs).numpy()
    np.testing.assert_allclose(output, expected['output'], rtol=0, atol=5e-4)


def test_unknown_names_mirrors_and_folders_are_refused(tmp_path):
    with pytest.raises(ModelError, match='known are segsrgan-dhcp'):
        fetch('resnet', tmp_path)
    with pytest.raises(ModelError, match='ftp://x'):
        fetch(NAME, tmp_path, ['ftp://x'])
    (tmp_path / 'file').touch()
    with pytest.raises(ModelError, match='cannot be written') as caught:
        fetch(NAME, tmp_path / 'file')
    assert str(tmp_path / 'file') in str(caught.value)
