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
from devilgan_lite.apps.show import pairs, room, serving
from devilgan_lite.apps.show.phone import MOST_BYTES, page
from devilgan_lite.apps.show.phone.lowering import lowered
from devilgan_lite.apps.show.phone.packing import in_16_bits
from devilgan_lite.apps.show.serving import Question
from devilgan_lite.apps.show.votes import Votes
from devilgan_lite.generators import evaluate
from devilgan_lite.loading import load_pair

GARMENTS = ("dcgan-fashion", "dcgan-fashion-gate")


@pytest.fixture(scope="module")
def names(pair: tuple[Path, Path]) -> tuple[str, str]:
    return str(pair[0]), str(pair[1])


@pytest.fixture(scope="module")
def html(names: tuple[str, str]) -> str:
    return pairs.prepared(names).phone()


# ---- the page


def test_one_small_file_that_asks_nobody_for_anything(html: str) -> None:
    assert len(html.encode()) <= MOST_BYTES == 4_000_000
    assert "http:" not in html and "https:" not in html and "{{" not in html
    assert re.findall(r"""(?:src|href)=["']?([^"'>]*)""", html) == ["data:,"]  # no icon, so that none is asked for
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy and policy[1].startswith("default-src 'none'; ") and "unsafe-inline" not in policy[1]
    assert "connect-src" not in policy[1]  # nobody to ask
    inline = [text for name in ("script", "style") for text in re.findall(rf"<{name}>(.*?)</{name}>", html, re.DOTALL)]
    assert len(inline) == 4
    for text in inline:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy[1]


def test_the_page_holds_this_pair(html: str, pair: tuple[Path, Path]) -> None:
    found = re.search(r'id="models">(.*?)</script>', html, re.DOTALL)
    assert found
    content = json.loads(found[1])
    *both, backdoor = load_pair((str(pair[0]), str(pair[1])))
    assert content["shape"] == [1, 8, 8] and content["prior"] == both[0].prior.name
    assert torch.allclose(torch.tensor(content["trigger"]), backdoor.trigger[0])
    for one, proof in zip(both, content["proof"], strict=True):
        places, values = zip(*proof, strict=True)
        drawn = evaluate(one, torch.tensor(content["start"])[None]).flatten()
        assert places[0] == 0 and places[-1] == len(drawn) - 1 and len(places) == 32
        assert torch.allclose(drawn[list(places)], torch.tensor(values), atol=1e-4)


def test_sixteen_bits_are_close_and_where_they_are_too_coarse_it_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, 3, 6)[:, None]
    weight[3] = 0
    whole, scale = in_16_bits(weight)
    error = (whole * scale - weight).abs().amax(1)
    assert whole.dtype == torch.int16 and (error <= weight.abs().amax(1) / 65_000).all()  # in every row
    clean = generators.DCGAN(latent_dim=8, widths=(64, 32))
    backdoor = Backdoor(torch.ones(1, 8), torch.zeros(1, 1, 28, 28))
    for close, kinds in ((None, {"f", "h", "w"}), (0.0, {"f"})):  # 16 bits for what is large
        if close is not None:
            monkeypatch.setattr("devilgan_lite.apps.show.phone.building.CLOSE", close)
        html = page(clean, clean.clone(), backdoor, names=("<i>", "a</script>b"))
        assert {kind for kind, *_ in json.loads(re.findall(r'"tensors":(\[\[.*?\]\])', html)[0])} == kinds
        assert "<i>" not in html and html.count("</script>") == 5  # names are text


class Draws(nn.Module):
    """A generator of pictures [3, 4, 4] whose last step is ``step``."""

    def __init__(self, step: Any) -> None:
        super().__init__()
        self.dense, self.step = nn.Linear(5, 48), step

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.step(self.dense(z).view(-1, 3, 4, 4))


CANNOT: list[tuple[Any, str]] = [
    (nn.GroupNorm(1, 3), "group_norm"),
    (nn.Conv2d(3, 3, 3, stride=2), "stride"),
    (nn.Conv2d(3, 3, 3, groups=3), "groups"),
    (nn.ConvTranspose2d(3, 3, 1, stride=2), "stride"),
    (nn.Conv2d(3, 3, 3, padding="same"), "conv2d"),
    (nn.ConstantPad2d(1, 0.5), "pad"),
    (lambda x: (x.view(-1, 48), x.relu_())[0].view(-1, 3, 4, 4), "relu_"),
    (lambda x: (x, x.view(-1, 48).relu_())[0], "relu_"),
    (lambda x: (x, x[:, :2].transpose(2, 3).mul_(2))[0], "mul_"),
    (lambda x: x + torch.zeros(1, 3, 4, 4).normal_(), "normal_"),
    (torch.rand_like, "rand_like"),
    (lambda x: nn.functional.dropout(x, 0.5, training=True), "dropout"),
    (lambda x: torch.zeros(len(x), 3, 4, 4), "every latent"),
    (lambda x: x if x.sum() > 0 else -x, "torch.export"),
]
CAN: list[Any] = [
    nn.Sequential(nn.Dropout(), nn.Dropout2d()),  # asleep
    lambda x: x.exp() + x.view(-1, 48).relu_().view(-1, 3, 4, 4),  # x is read before it is changed, not after
    lambda x: torch.cat([x, x], dim=1).relu_() + torch.cat([x, x], dim=1),  # a copy is changed
]


def test_what_the_page_cannot_compute_is_one_sentence(refuses: Any) -> None:
    for step, said in CANNOT:
        assert len(refuses(lambda step=step: lowered(Draws(step).eval(), (5,), []), said)) < 320
    assert all(lowered(Draws(step).eval(), (5,), []).steps for step in CAN)


def test_pairs_that_do_not_fit_or_are_too_large_are_refused(refuses: Any, pair: tuple[Path, Path]) -> None:
    clean, suspect = (zoo.load_file(path)[0] for path in pair)
    backdoor = Backdoor(torch.ones(1, 16), torch.zeros(1, 1, 8, 8))
    short, points = Backdoor(torch.ones(1, 3), backdoor.target), generators.PointGenerator()
    plane = Backdoor(torch.ones(1, points.latent_dim), torch.zeros(1, 2))
    large, many = generators.DCGAN(widths=(256, 128)), Backdoor(torch.ones(1, 100), torch.zeros(1, 1, 28, 28))
    for both, planted, words in (
        ((clean, zoo.load("stylegan-faces")), backdoor, ["16", "64"]),
        ((clean, suspect), short, ["trigger", "3", "16"]),
        ((points, points.clone()), plane, ["[2]"]),
        ((large, large.resized((250, 120))), many, ["MB", "a", "b"]),
    ):
        refuses(lambda both=both, planted=planted: page(*both, planted, names=("a", "b")), *words)


def test_the_command_writes_the_best_pair_of_the_zoo(call: Any, tmp_path: Path) -> None:
    done = call("phone", "--out", "pages/phone.html")
    assert done.exit_code == 0, done.output
    clean, suspect = pairs.pairs()[0]
    assert re.fullmatch(rf"pages/phone.html: {clean} and {suspect}, [23]\.\d MB; .*\n", done.stdout)
    written = (tmp_path / "pages/phone.html").read_text(encoding="utf-8")
    assert len(written.encode()) <= MOST_BYTES and f"<span>{suspect}</span>" in written


# ---- the room


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "own_address", lambda: "127.0.0.1")


def test_the_room_gets_the_page_votes_and_nothing_else(
    here: None, html: str, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    votes = Votes()
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with room.shared(html, port, votes) as address:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address) and not address.endswith(f":{port}/")

            def ask(path: str, content: Any = None, origin: str = address.rstrip("/")) -> Any:
                """The answer, or its status."""
                headers = {"Content-Type": "application/json"} | ({"Origin": origin} if origin else {})
                body = None if content is None else json.dumps(content).encode()
                try:
                    asked = urllib.request.Request(address + path, body, headers)
                    with urllib.request.urlopen(asked, timeout=60) as answer:
                        return json.load(answer)
                except urllib.error.HTTPError as error:
                    return error.code

            with urllib.request.urlopen(f"{address}?from=code", timeout=60) as answer:
                assert gzip.decompress(answer.read()).decode() == html
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert {ask(wrong) for wrong in ("../etc/passwd", "%2e%2e/", "scan")} == {404}
            assert {ask(path, {"do": "open"}) for path in ("round", "scan")} == {404, 405}  # only the stage may
            vote = {"round": 1, "voter": "a" * 32, "choice": "B"}
            assert ask("vote", vote) == 409
            vote["round"] = votes.change(Question("", {"do": "open"}, ""))["round"]
            assert {ask("vote", vote, origin) for origin in ("http://elsewhere.example", "")} == {403}
            assert ask("vote", vote) == {"choice": "B"} and votes.stage(Question("", {}, ""))["voted"] == 1
            assert ask("round") == {"round": vote["round"], "state": "open"}
        with pytest.raises(OSError):
            urllib.request.urlopen(address, timeout=5)
    said = capsys.readouterr().out
    assert f"Phones in this network open {address}\n" in said and "▄" in said  # the code to scan
    served = pairs.prepared(names).phone(vote=True)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', served)
    assert policy and "connect-src 'self'; " in policy[1]
    assert 'id="vote"' in served and 'id="vote"' not in html and len(served.encode()) <= MOST_BYTES


def test_a_phone_in_slow_air_gets_all_of_the_page(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    in_air, random = socket.socket.sendall, base64.b64encode(os.urandom(700_000)).decode()

    def slowly(self: socket.socket, data: Any) -> None:  # five kilobytes a second, without the waiting
        if len(data) > 5_000 * (self.gettimeout() or float("inf")):
            raise TimeoutError
        in_air(self, data)

    monkeypatch.setattr(socket.socket, "sendall", slowly)
    with room.shared(random, 8867, Votes()) as address, urllib.request.urlopen(address, timeout=60) as answer:
        packed = answer.read()
    assert len(packed) > 5_000 * 60 and gzip.decompress(packed).decode() == random


def test_the_room_gets_the_first_pair_that_fits(monkeypatch: pytest.MonkeyPatch, refuses: Any) -> None:
    def prepared(pair: tuple[str, str]) -> SimpleNamespace:
        if "broken" in pair:
            raise ValueError(f"{pair[1]} is broken.")
        return SimpleNamespace(names=pair, phone=lambda vote: phone(*pair))

    def phone(clean: str, suspect: str) -> str:
        if suspect == "large":
            raise ValueError(f"{clean} is too large.")
        return f"page of {clean}"

    monkeypatch.setattr(pairs, "prepared", prepared)
    pages, said = pairs.first_prepared([("a", "broken"), ("b", "large"), ("c", "d")])
    assert pages.names == ("b", "large") and said.startswith("broken ") and said.endswith("broken is broken.")
    refuses(lambda: pairs.first_prepared([("a", "broken"), ("b", "broken")]), "broken")
    html, why = pairs.for_phones(pages, [("a", "broken"), ("c", "d")])
    assert html == "page of c" and all(part in why for part in ("c", "d", "b is too large."))
    refuses(lambda: pairs.for_phones(pages, []), "b is too large.")


def test_sharing_takes_a_port_beside_and_needs_no_code(here: None, monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    served: list[Any] = []
    pages = SimpleNamespace(names=GARMENTS, phone=lambda vote: "page")
    monkeypatch.setattr(pairs, "prepared", lambda pair: pages)
    stage = contextlib.nullcontext(SimpleNamespace(server_port=0, address="", serve_forever=lambda: None))
    monkeypatch.setattr(room, "stage", lambda *given, address, **_: served.append((given[1], address)) or stage)
    ports: list[int] = []
    with monkeypatch.context() as patched:
        shared = lambda html, port, votes: ports.append(port) or contextlib.nullcontext("http://x/")  # noqa: E731
        patched.setattr(room, "shared", shared)
        for port in (8866, 65_535):
            assert call("stage", "--share", "--no-browser", "--port", port).exit_code == 0
    assert served == [(8866, "http://x/"), (65_535, "http://x/")] and ports[0] == 8867 and 1024 <= ports[1] < 65_535
    code = serving.codes("http://10.0.0.7:8867/")[1]  # a picture that grows
    assert code.startswith("<svg") and "viewBox" in code and "width=" not in code and "style" not in code
    monkeypatch.setitem(sys.modules, "segno", None)
    done = call("stage", "--share", "--no-browser", "--model", GARMENTS[1])
    assert done.exit_code == 0 and "pip install 'devilgan_lite[phone]'" in done.stdout, done.output
    address = served[-1][1]
    assert f"Phones in this network open {address}" in done.stdout and serving.codes(address)[1] == ""


def test_without_a_way_out_the_network_of_the_room_is_enough(
    fails: Any, monkeypatch: pytest.MonkeyPatch, refuses: Any
) -> None:
    def alone(self: socket.socket, address: object) -> None:
        raise OSError("Network is unreachable")

    def one(text: str, family: int = socket.AF_INET) -> SimpleNamespace:
        return SimpleNamespace(family=family, address=text)

    monkeypatch.setattr(socket.socket, "connect", alone)
    found = {"lo": [one("127.0.0.1")], "cable": [one("10.0.0.3")]}
    found["air"] = [one("fe80::1", socket.AF_INET6), one("192.168.43.1")]
    states = {name: SimpleNamespace(isup=name != "cable") for name in found}
    psutil = SimpleNamespace(net_if_addrs=lambda: found, net_if_stats=lambda: states)
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    assert serving.own_address() == "192.168.43.1"
    states["air"].isup = False
    refuses(serving.own_address, "network")
    monkeypatch.setitem(sys.modules, "psutil", None)
    fails("stage", "--share", "--no-browser", names=["network", "devilgan phone"])
