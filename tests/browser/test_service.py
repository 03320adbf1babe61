"""The page of ``devilgan serve``: drop a file, watch its progress, read the verdict and the report; with a key, too."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serving

sys.path.append(str(Path(__file__).parents[1] / "service"))
import running  # noqa: E402

MANY = 60  # findings: three seconds, in which a busy machine can look at the page
KEY = "ann's-key-is-long-enough"
DROP = """(content) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([content], '<img src=x onerror=alert(1)>.onnx'));
  for (const name of ['dragenter', 'dragover', 'drop'])
    document.getElementById('drop').dispatchEvent(new DragEvent(name, {dataTransfer: transfer, bubbles: true}));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[running.Server]:
    with running.Server(tmp_path_factory.mktemp("page") / "service", "--workers", "1") as server:
        yield server


def choose(page: Any, name: str, content: str) -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": content.encode()})


def refusals(visit: serving.Visit) -> None:
    """Forget what the browser itself writes about answers of 400 and more."""
    visit.wrong[:] = [text for text in visit.wrong if "Failed to load resource" not in text]


def test_drop_watch_and_read(browser: Any, server: running.Server) -> None:
    with serving.Visit(browser, server.address) as visit:
        page = visit.page
        page.get_by_text("Drop a model here").wait_for()
        page.evaluate(DROP, f"steps {MANY}")
        page.locator("#detectors li").nth(2).wait_for()
        assert page.locator("#verdict").is_hidden()  # they appear one by one, before the end
        assert "detectors have finished" in page.locator("#state").inner_text()
        page.locator("#verdict").wait_for()
        assert page.locator("#word").inner_text().lower() == "suspicious"
        assert page.locator("#detectors li").count() == MANY
        assert "<b>of the first layer</b>" in page.locator("#detectors li").first.inner_text()
        assert page.locator("#name").inner_text() == "<img src=x onerror=alert(1)>.onnx"
        page.locator("#pictures img").nth(1).wait_for()
        assert page.evaluate("[...document.querySelectorAll('#pictures img')].every(image => image.naturalWidth > 0)")
        page.reload()  # the address keeps the scan
        page.locator("#verdict").wait_for()
        assert page.locator("#detectors li").count() == MANY
        with page.expect_download() as download:
            page.get_by_role("link", name="JSON").click()
        assert '"verdict":"suspicious"' in Path(download.value.path()).read_text()
        page.get_by_role("link", name="Read the report").click()
        page.wait_for_url("**/report.html")
        assert "suspicious" in page.content() and page.locator("script").count() == 0
        page.go_back()
        page.locator("#verdict").wait_for()
        page.get_by_role("button", name="Delete this scan").click()
        page.locator("#recent").wait_for(state="hidden")
        assert server.ask("/scans") == []
        choose(page, "empty.onnx", "")  # what is wrong is said
        page.get_by_text("The upload is empty").wait_for()
        choose(page, "broken.onnx", "fail")
        page.get_by_text("The check itself failed (KeyError).").wait_for()
        assert page.get_by_role("link", name="JSON").is_hidden()
        refusals(visit)


@pytest.mark.nightly
def test_by_keyboard_on_a_phone_with_a_key_and_when_the_server_starts_anew(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"ann:{KEY}\n")
    keyed = running.Server(tmp_path / "keyed", "--workers", "1", "--keys", str(tmp_path / "keys"))
    small: dict[str, Any] = {"size": (390, 844), "color_scheme": "dark"}
    with keyed as server, serving.Visit(browser, server.address, **small) as visit:
        page, seen = visit.page, []
        for key, said in (("nobody's-key-is-long-enough", "does not know that key"), (KEY, "Drop a model here")):
            page.get_by_label("Your key").fill(key)
            page.keyboard.press("Enter")
            page.get_by_text(said).wait_for()
        page.locator("#key-form").wait_for(state="hidden")
        page.locator("#file").focus()
        for _ in range(4):
            seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
            if seen[-1] == "SUMMARY":
                page.keyboard.press("Enter")
            page.keyboard.press("Tab")
        assert seen == ["file", "SUMMARY", "latent_dim", "seed"]
        page.locator("#seed").fill("3")
        choose(page, f"{'long-name-' * 11}.onnx", "steps 2")
        page.locator("#verdict").wait_for()
        page.locator("#pictures img").nth(1).wait_for()
        assert page.evaluate("document.activeElement.id") == "name"  # a reader is taken to what is new
        unnamed = "[...document.querySelectorAll('input')].filter(input => !input.labels.length).length"
        assert page.evaluate(unnamed) == 0 and page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("link", name="Read the report").click()
        page.wait_for_url(re.compile("report.html.token="))
        assert "suspicious" in page.content() and KEY not in page.url
        refusals(visit)
    words = (tmp_path / "service", "--workers", "1", "--port", str(serving.free_port()))
    visit = serving.Visit(browser)
    with running.Server(*words) as server:
        visit.page.goto(server.address)
        choose(visit.page, "a.onnx", "steps 30")
        visit.page.locator("#detectors li").nth(1).wait_for()
    with running.Server(*words):
        visit.page.locator("#verdict").wait_for()  # the page has found it again by itself
        assert visit.page.locator("#detectors li").count() == 30
    visit.context.close()
