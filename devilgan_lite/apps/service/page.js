// The page of the checking service: one file up, its progress down, and the verdict. Text from a scan only ever becomes
// text, and pictures only ever PNG; the service's policy forbids everything else.
"use strict";

const get = (id) => document.getElementById(id);
const ICONS = { clean: "✓", suspicious: "!", backdoored: "✕", inconclusive: "?", refused: "–", failed: "–" };
const PICTURES = [
  ["witness", "Witness: the suspect draws this."],
  ["witness_twin", "Its twin, which knows only ordinary behaviour, draws this from the same input."],
  ["estimate", "Sample at the estimated trigger: what the weights point to."],
];
let limits = { keys: false, upload_bytes: 0 };
let shown = ""; // id of the scan on the page
let upload = null; // the request that sends a file now

const key = () => sessionStorage.getItem("key") || "";
const say = (text) => { get("state").textContent = text; };

function element(name, text, style) {
  const made = document.createElement(name);
  made.textContent = text;
  if (style) made.className = style;
  return made;
}

function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let index = 0;
  for (; bytes >= 1024 && index < 3; index++) bytes /= 1024;
  return `${index ? Number(bytes.toPrecision(3)) : bytes} ${units[index]}`;
}

// --- talking to the service

function headers(more) {
  return key() ? { ...more, Authorization: `Bearer ${key()}` } : { ...more };
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers(options.headers) });
  if (answer.ok) return answer;
  if (answer.status === 401) needKey();
  const { detail } = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(detail || `The service answered ${answer.status}.`), { status: answer.status });
}

function needKey() {
  if (key()) get("key-note").textContent = "This service does not know that key.";
  sessionStorage.removeItem("key");
  get("key-form").hidden = false;
  get("key").focus();
}

get("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", get("key").value.trim());
  get("key").value = "";
  get("key-form").hidden = true;
  start();
});

// --- the file up

function send(file) {
  if (!get("seed").reportValidity() || !get("latent_dim").reportValidity()) return;
  if (upload) upload.abort();
  clear(file.name);
  if (limits.upload_bytes && file.size > limits.upload_bytes) {
    say(`This file has ${size(file.size)}; at most ${size(limits.upload_bytes)} are accepted.`);
    return;
  }
  const query = new URLSearchParams({ seed: get("seed").value, twin: get("twin").checked });
  if (get("latent_dim").value) query.set("latent_dim", get("latent_dim").value);
  const request = new XMLHttpRequest(); // which, unlike fetch, says how far an upload is
  upload = request;
  request.open("POST", `/scans?${query}`);
  request.responseType = "json";
  const more = { "Content-Type": "application/octet-stream", "X-Filename": encodeURIComponent(file.name) };
  for (const [name, value] of Object.entries(headers(more))) request.setRequestHeader(name, value);
  get("bar").hidden = false;
  say(`Uploading ${size(file.size)} ...`);
  request.upload.onprogress = (event) => { if (event.lengthComputable) get("bar").value = event.loaded / event.total; };
  request.onloadend = () => {
    if (upload !== request) return; // another file has taken its place
    upload = null;
    get("bar").hidden = true;
    get("file").value = "";
    if (request.status === 401) needKey();
    if (request.status === 200 || request.status === 202) {
      history.pushState(null, "", `#${request.response.id}`);
      show(request.response);
    } else {
      say(request.response?.detail || "The upload broke off. Is the service still running?");
    }
  };
  request.send(file);
}

get("file").addEventListener("change", () => { if (get("file").files[0]) send(get("file").files[0]); });
get("drop").addEventListener("submit", (event) => event.preventDefault());
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => { // anywhere on the page, else a browser leaves it to open the file
    event.preventDefault();
    get("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });
}

// --- progress down

function clear(name) {
  shown = "";
  get("scan").hidden = false;
  get("name").textContent = name;
  get("facts").textContent = "";
  get("detectors").replaceChildren();
  get("pictures").replaceChildren();
  for (const id of ["verdict", "links", "bar"]) get(id).hidden = true;
  get("name").focus();
}

async function show(scan) {
  clear(scan.name);
  shown = scan.id;
  get("facts").textContent = `${size(scan.bytes)}, SHA-256 ${scan.sha256}`;
  recent();
  let last = "";
  for (let failures = 0; shown === scan.id && failures < 20; failures++) {
    try {
      const answer = await ask(`/scans/${scan.id}/events`, { headers: last ? { "Last-Event-ID": last } : {} });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (shown !== scan.id) return reader.cancel();
        if (done) break;
        const messages = (text + value).split("\n\n");
        text = messages.pop();
        for (const message of messages) {
          const parts = Object.fromEntries(message.split("\n").map((line) => line.split(/: (.*)/s)));
          if (parts.id) last = parts.id;
          if (!parts.event) continue; // a heartbeat
          failures = 0;
          if (parts.event === "end") return await ended(scan.id, JSON.parse(parts.data));
          heard(parts.event, JSON.parse(parts.data));
        }
      }
    } catch (error) {
      if (error.status) return say(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000)); // the service was restarted: go on where we were
  }
}

function heard(event, data) {
  if (event === "job") {
    say(data.state === "waiting" ? "Waiting in the queue ..." : "Opening the file in a jail ...");
  } else if (data.event === "started") {
    get("detectors").replaceChildren(); // also when a check that was broken off starts anew
  } else if (data.event === "opened") {
    const model = data.model || {};
    say(`${model.architecture || data.format || "Opened"}: the detectors are at work ...`);
  } else if (data.detector) {
    const found = Boolean(data.evidence) && Number(data.strength) >= 1;
    const quiet = data.evidence ? "below the limit" : "no say in the verdict";
    const head = document.createElement("div");
    const word = !data.ran ? "could not run" : found ? "evidence" : quiet;
    head.append(element("strong", data.detector), element("span", word, found ? "found" : "soft"));
    const item = document.createElement("li");
    item.append(head, element("p", data.message || "", "soft"));
    get("detectors").append(item);
    say(`${get("detectors").children.length} detectors have finished ...`);
  }
}

async function ended(id, { state, verdict, sentence }) {
  recent();
  if (state === "deleted") return say("This scan has been deleted.");
  const word = verdict || "failed";
  say(state === "done" ? "The check has ended." : "The check could not be done.");
  get("verdict").className = `band ${word in ICONS ? word : ""}`;
  get("icon").textContent = ICONS[word] || "?";
  get("word").textContent = word;
  get("sentence").textContent = sentence;
  get("verdict").hidden = false;
  for (const name of ["html", "json", "sarif"]) {
    get(name).href = `/scans/${id}/report.${name}`;
    get(name).hidden = state !== "done";
  }
  get("links").hidden = false;
  if (state !== "done") return;
  const report = await (await ask(`/scans/${id}/report.json`)).json();
  if (shown !== id) return;
  get("pictures").replaceChildren();
  for (const [name, caption] of PICTURES) {
    const content = report.pictures?.[name];
    if (typeof content !== "string" || !/^[A-Za-z0-9+/=]+$/.test(content)) continue;
    const picture = new Image();
    picture.src = `data:image/png;base64,${content}`;
    picture.alt = "";
    const figure = document.createElement("figure");
    figure.append(picture, element("figcaption", caption));
    get("pictures").append(figure);
  }
}

for (const name of ["html", "json", "sarif"]) {
  get(name).addEventListener("click", async (event) => {
    if (!key()) return;
    event.preventDefault(); // a link sends no key, so ask for a token that is good for five minutes
    try {
      const { token } = await (await ask(`/scans/${shown}/link`, { method: "POST" })).json();
      location.assign(`/scans/${shown}/report.${name}?${new URLSearchParams({ token })}`);
    } catch (error) {
      say(error.message);
    }
  });
}

get("forget").addEventListener("click", async () => {
  try {
    await ask(`/scans/${shown}`, { method: "DELETE" });
    shown = "";
    history.replaceState(null, "", "/");
    get("scan").hidden = true;
    recent();
    get("file").focus();
  } catch (error) {
    say(error.message);
  }
});

// --- what was before

async function recent() {
  try {
    const scans = await (await ask("/scans")).json();
    get("list").replaceChildren(...scans.slice(0, 10).map((scan) => {
      const item = document.createElement("li");
      const link = element("a", scan.name);
      link.href = `#${scan.id}`;
      const when = new Date(1000 * scan.created).toLocaleString();
      item.append(link, element("span", `${scan.verdict || scan.state}, ${when}`, "soft"));
      return item;
    }));
    get("recent").hidden = scans.length === 0;
  } catch { /* the page works without the list */ }
}

async function start() {
  try {
    limits = await (await ask("/healthz")).json();
    get("most").textContent = size(limits.upload_bytes);
    if (limits.keys && !key()) return needKey();
    await recent();
    const id = location.hash.slice(1);
    if (/^[\w-]{10,60}$/.test(id)) {
      if (id !== shown) await show(await (await ask(`/scans/${id}`)).json());
    } else if (shown) {
      shown = "";
      get("scan").hidden = true;
    }
  } catch (error) {
    get("scan").hidden = false;
    say(error.status ? error.message : "The service does not answer. Is it still running?");
  }
}

addEventListener("hashchange", start);
addEventListener("popstate", start);
start();
