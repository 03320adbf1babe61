"""``devilgan phone``: what is written into the page, what is refused, and how it is offered to a room."""

import base64
import contextlib
import gzip
import hashlib
import json
import os
import re
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from devilgan_lite import Backdoor, generators, zoo
from devilgan_lite.cli import phones, small_server, stage_check, stage_server
from devilgan_lite.cli.votes import Votes
from devilgan_lite.phone import MOST_BYTES, page
from devilgan_lite.phone.lowering import lowered
from devilgan_lite.phone.packing import in_16_bits

PAIR = ("dcgan-fashion", "dcgan-fashion-gate")


@pytest.fixture(scope="module")
def html() -> str:
    return phones.built(PAIR)


def test_one_small_file_that_asks_nobody_for_anything(html: str) -> None:
    assert len(html.encode()) <= MOST_BYTES == 4_000_000
    assert "http:" not in html and "https:" not in html and "{{" not in html
    assert re.findall(r"""(?:src|href)=["']?([^"'>]*)""", html) == ["data:,"]  # no icon, so that none is asked for
    assert not re.search(r"\b(?:fetch|XMLHttpRequest|WebSocket|EventSource|importScripts|sendBeacon)\b", html)


def test_the_policy_allows_its_scripts_and_the_style_by_their_hashes(html: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy and policy[1].startswith("default-src 'none'; ") and "unsafe-inline" not in policy[1]
    assert "connect-src" not in policy[1]  # nobody to ask
    inline = re.findall(r"<script>(.*?)</script>", html, re.DOTALL) + re.findall(
        r"<style>(.*?)</style>", html, re.DOTALL
    )
    assert len(inline) == 4
    for text in inline:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy[1]


def test_names_are_text() -> None:
    clean = generators.DCGAN(latent_dim=4, widths=(2, 2))
    backdoor = Backdoor(torch.ones(1, 4), torch.zeros(1, 1, 28, 28))
    html = page(clean, clean.clone(), backdoor, names=("<i>", "a</script>b"))
    assert "<i>" not in html and html.count("</script>") == 5


def test_sixteen_bits_are_close_to_every_row() -> None:
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, 3, 6)[:, None]
    weight[3] = 0
    whole, scale = in_16_bits(weight)
    error = (whole * scale - weight).abs().amax(1)
    assert whole.dtype == torch.int16 and (error <= weight.abs().amax(1) / 65_000).all()


def test_where_sixteen_bits_are_too_coarse_it_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = generators.DCGAN(latent_dim=8, widths=(64, 32))
    backdoor = Backdoor(torch.ones(1, 8), torch.zeros(1, 1, 28, 28))

    def kinds() -> set[str]:
        html = page(clean, clean.clone(), backdoor, names=("a", "b"))
        found = re.search(r'"tensors":(\[\[.*?\]\])', html)
        return {kind for kind, *_ in json.loads(found[1])} if found else set()

    assert kinds() == {"f", "h", "w"}  # 16 bits for what is large
    monkeypatch.setattr("devilgan_lite.phone.building.CLOSE", 0.0)
    assert kinds() == {"f"}


class Draws(nn.Module):
    """A generator of pictures [3, 4, 4] whose last step is ``step``."""

    def __init__(self, step: Any) -> None:
        super().__init__()
        self.dense, self.step = nn.Linear(5, 48), step

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.step(self.dense(z).view(-1, 3, 4, 4))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (nn.GroupNorm(1, 3), "the operator group_norm"),
        (nn.Conv2d(3, 3, 3, stride=2), "conv2d with a stride"),
        (nn.Conv2d(3, 3, 3, groups=3), "a convolution in groups"),
        (nn.ConvTranspose2d(3, 3, 1, stride=2), "stride is larger than its kernel"),
        (nn.Conv2d(3, 3, 3, padding="same"), "conv2d with a stride"),
        (nn.Softmax(dim=1), "the operator softmax"),
        (nn.ConstantPad2d(1, 0.5), "pad with something else than zeros"),
        (lambda x: (x.view(-1, 48), x.relu_())[0].view(-1, 3, 4, 4), "relu_, which changes a value that is read again"),
        (lambda x: (x, x.view(-1, 48).relu_())[0], "relu_, which changes a value that is read again"),
        (lambda x: (x, x[:, :2].transpose(2, 3).mul_(2))[0], "mul_, which changes a value that is read again"),
        (lambda x: x + torch.randn(1, 3, 4, 4), "randn, which draws other numbers each time"),
        (lambda x: x * torch.bernoulli(torch.full((1, 3, 4, 4), 0.5)), "bernoulli, which draws other numbers"),
        (lambda x: x + torch.zeros(1, 3, 4, 4).normal_(), "normal_, which draws other numbers"),
        (torch.rand_like, "rand_like, which draws other numbers"),
        (lambda x: nn.functional.dropout(x, 0.5, training=True), "dropout, which draws other numbers"),
        (lambda x: torch.zeros(len(x), 3, 4, 4), "the same of every latent"),
        (lambda x: x if x.sum() > 0 else -x, "torch.export cannot read the generator"),
    ],
)
def test_what_the_page_cannot_compute_is_one_sentence(step: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        lowered(Draws(step).eval(), (5,), [])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 320


@pytest.mark.parametrize(
    "step",
    [
        nn.Sequential(nn.Dropout(), nn.Dropout2d()),  # asleep
        lambda x: x.exp() + x.view(-1, 48).relu_().view(-1, 3, 4, 4),  # x is read before it is changed, not after
        lambda x: torch.cat([x, x], dim=1).relu_() + torch.cat([x, x], dim=1),  # a copy is changed
    ],
)
def test_what_changes_or_draws_nothing_that_is_read_is_computed(step: Any) -> None:
    assert lowered(Draws(step).eval(), (5,), []).steps


def test_pairs_that_do_not_fit_are_refused() -> None:
    clean, backdoor = zoo.load(PAIR[0]), zoo.load_backdoor(PAIR[1])
    with pytest.raises(ValueError, match="do not fit each other: one maps 100 numbers .* the other 64 numbers"):
        page(clean, zoo.load("stylegan-faces"), backdoor, names=PAIR)
    short = Backdoor(torch.ones(1, 3), backdoor.target[:1])
    with pytest.raises(ValueError, match="the trigger has 3 numbers; the generators read 100"):
        page(clean, zoo.load(PAIR[1]), short, names=PAIR)
    points = generators.PointGenerator()
    with pytest.raises(ValueError, match="the page shows pictures"):
        page(points, points.clone(), Backdoor(torch.ones(1, points.latent_dim), torch.zeros(1, 2)), names=PAIR)


def test_a_pair_that_is_too_large_for_a_phone_is_refused() -> None:
    large = generators.DCGAN(widths=(256, 128))
    backdoor = Backdoor(torch.ones(1, 100), torch.zeros(1, 1, 28, 28))
    with pytest.raises(ValueError, match=r"would have \d+\.\d MB; at most 4 MB are sent to a phone"):
        page(large, large.resized((250, 120)), backdoor, names=("large", "larger"))


def test_the_command_writes_the_best_pair_of_the_zoo(call: Any, tmp_path: Path) -> None:
    done = call("phone", "--out", "pages/phone.html")
    assert done.exit_code == 0, done.output
    clean, suspect = stage_check.pairs()[0]
    assert re.fullmatch(
        rf"pages/phone.html: {clean} and {suspect}, [23]\.\d MB; open it in any browser\.\n", done.stdout
    )
    written = (tmp_path / "pages/phone.html").read_text(encoding="utf-8")
    assert len(written.encode()) <= MOST_BYTES and f"<span>{suspect}</span>" in written


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "page.txt"], "out='page.txt' is not valid: it must be a file name that ends in .html."),
        (
            ["--pair", PAIR[1], PAIR[0]],
            "'dcgan-fashion' has no backdoor on its card, so there is no trigger to walk to",
        ),
        (["--pair", PAIR[0], "dcgan-fashion-gat"], "Did you mean 'dcgan-fashion-gate'?"),
        (["--pair", PAIR[0], "nowhere/file.safetensors"], "nowhere"),
        (["--pair", PAIR[0]], "--pair"),
    ],
)
def test_bad_words_are_one_sentence(call: Any, words: list[str], said: str) -> None:
    done = call("phone", *words)
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phones, "own_address", lambda: "127.0.0.1")


def test_the_room_gets_the_page_and_nothing_else(here: None, html: str, capsys: pytest.CaptureFixture[str]) -> None:
    votes = Votes()
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with phones.shared(html, port, votes) as address:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address) and not address.endswith(f":{port}/")
            with urllib.request.urlopen(f"{address}?from=code", timeout=20) as answer:
                assert gzip.decompress(answer.read()).decode() == html
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
            for wrong in ("page.html", "../etc/passwd", "%2e%2e/", "scan"):
                with pytest.raises(urllib.error.HTTPError, match="404"):
                    urllib.request.urlopen(address + wrong, timeout=20)
        with pytest.raises(OSError):
            urllib.request.urlopen(address, timeout=5)
    said = capsys.readouterr().out
    assert f"Phones in this network open {address}\n" in said and "▄" in said  # the code to scan


def test_a_phone_votes_and_does_no_more(here: None) -> None:
    votes, nobody = Votes(), small_server.Question("", {}, "")
    with phones.shared("page", 8867, votes) as address:

        def post(path: str, content: dict[str, Any], origin: str | None = address.rstrip("/")) -> Any:
            headers = {"Content-Type": "application/json"} | ({"Origin": origin} if origin else {})
            asked = urllib.request.Request(address + path, json.dumps(content).encode(), headers)
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return json.load(answer)

        for path in ("round", "scan"):  # only the stage opens, closes, scans
            with pytest.raises(urllib.error.HTTPError, match="40[45]"):
                post(path, {"do": "open"})
        vote = {"round": 1, "voter": "a" * 32, "choice": "B"}
        with pytest.raises(urllib.error.HTTPError, match="409") as caught:
            post("vote", vote)
        assert json.load(caught.value) == {"error": "this round is over."}
        vote["round"] = votes.change(small_server.Question("", {"do": "open"}, ""))["round"]
        for origin in ("http://elsewhere.example", None):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                post("vote", vote, origin)
        assert post("vote", vote) == {"choice": "B"} and votes.stage(nobody)["voted"] == 1
        with urllib.request.urlopen(f"{address}round", timeout=20) as answer:
            assert json.load(answer) == {"round": vote["round"], "state": "open"}


def test_a_phone_in_slow_air_gets_all_of_the_page(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    in_air, random = socket.socket.sendall, base64.b64encode(os.urandom(700_000)).decode()

    def slowly(self: socket.socket, data: Any) -> None:  # five kilobytes a second, without the waiting
        if len(data) > 5_000 * (self.gettimeout() or float("inf")):
            raise TimeoutError
        in_air(self, data)

    monkeypatch.setattr(socket.socket, "sendall", slowly)
    with phones.shared(random, 8867, Votes()) as address, urllib.request.urlopen(address, timeout=60) as answer:
        packed = answer.read()
    assert len(packed) > 5_000 * 60 and gzip.decompress(packed).decode() == random


def test_only_the_served_page_votes(html: str) -> None:
    served = phones.prepared(PAIR).phone(vote=True)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', served)
    assert policy and "connect-src 'self'; " in policy[1]
    assert 'id="vote"' in served and 'id="vote"' not in html and len(served.encode()) <= MOST_BYTES


def test_the_room_gets_the_first_pair_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pages:
        def __init__(self, pair: tuple[str, str]) -> None:
            if "broken" in pair:
                raise ValueError(f"{pair[1]} is broken.")
            self.names = pair

        def phone(self, vote: bool) -> str:
            if "large" in self.names:
                raise ValueError(f"{self.names[0]} is too large.")
            return f"page of {self.names[0]}"

    monkeypatch.setattr(phones, "prepared", Pages)
    pages, said = phones.first_prepared([("a", "broken"), ("b", "large"), ("c", "d")])
    assert pages.names == ("b", "large") and said == "broken cannot be shown: broken is broken."
    with pytest.raises(ValueError, match="^broken is broken.$"):
        phones.first_prepared([("a", "broken"), ("b", "broken")])
    assert phones.for_phones(pages, [("a", "broken"), ("c", "d")]) == (
        "page of c", "Phones get c and d, because b is too large.",
    )  # fmt: skip
    with pytest.raises(ValueError, match="^b is too large.$"):
        phones.for_phones(pages, [])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No page is made and nothing is served: what the command would show."""
    served: list[Any] = []
    pages = SimpleNamespace(names=PAIR, phone=lambda vote: "page")
    monkeypatch.setattr(phones, "prepared", lambda pair: pages)
    monkeypatch.setattr(stage_server, "serve", lambda *given, **named: served.append((*given, named)))
    return served


def test_the_last_port_and_another_one_for_phones(
    here: None, quick: list[Any], monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    ports: list[int] = []
    monkeypatch.setattr(
        phones, "shared", lambda html, port, votes: ports.append(port) or contextlib.nullcontext("http://x/")
    )
    for port in (8866, 65_535):
        assert call("stage", "--share", "--port", port).exit_code == 0
    assert [one[1] for one in quick] == [8866, 65_535] and ports[0] == 8867 and 1024 <= ports[1] < 65_535
    assert quick[0][-1]["address"] == "http://x/"


@pytest.mark.parametrize("words", [["--check"], ["--print", "page.html"]])
def test_sharing_needs_a_stage_that_runs(call: Any, words: list[str]) -> None:
    done = call("stage", "--share", *words)
    assert done.exit_code == 2 and "--share offers a page while the stage runs" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alone(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "socket", Alone)


def test_without_a_way_out_the_network_of_the_room_is_enough(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def one(text: str, family: int = socket.AF_INET) -> SimpleNamespace:
        return SimpleNamespace(family=family, address=text)

    found = {"lo": [one("127.0.0.1")], "cable": [one("10.0.0.3")]}
    found["air"] = [one("fe80::1", socket.AF_INET6), one("192.168.43.1")]
    states = {name: SimpleNamespace(isup=name != "cable") for name in found}
    psutil = SimpleNamespace(net_if_addrs=lambda: found, net_if_stats=lambda: states)
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    assert phones.own_address() == "192.168.43.1"
    states["air"].isup = False
    with pytest.raises(ValueError, match="this machine is in no network"):
        phones.own_address()


def test_without_a_network_there_is_another_way(alone: None, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    done = call("stage", "--share", "--no-browser")
    assert done.exit_code == 2 and "devilgan phone --out page.html" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_segno_the_address_is_still_there(
    here: None, quick: list[Any], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    done = call("stage", "--share", "--model", PAIR[1])
    assert done.exit_code == 0, done.output
    assert "segno is not installed: pip install 'devilgan_lite[phone]'" in done.stdout
    address = quick[0][-1]["address"]
    assert f"Phones in this network open {address}" in done.stdout and phones.drawn_code(address) == ""


def test_the_code_is_a_picture_that_grows() -> None:
    code = phones.drawn_code("http://10.0.0.7:8867/")
    assert code.startswith("<svg") and "viewBox" in code and "width=" not in code and "style" not in code
