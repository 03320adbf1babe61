// The part of the stage that asks its server: a scan that runs beside, and rounds of votes.
"use strict";
const EVERY = 600; // milliseconds between two questions to the server
let round = { state: "none", swapped: false, voted: 0, votes: [0, 0] };
let hands = [0, 0];

async function ask(path, content) {
  const asked = { headers: { "X-Stage-Token": data.token }, cache: "no-store" };
  if (content) {
    asked.headers["Content-Type"] = "application/json";
    Object.assign(asked, { method: "POST", body: JSON.stringify(content) });
  }
  const answer = await fetch(path, asked).catch(() => {
    throw new Error("The stage's server has ended: pictures, keys and the map still work; scans and votes do not.");
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

// Call `look` now and every so often, until it says that there is nothing to wait for.
function watch(look) {
  const again = async () => {
    try {
      if (await look()) setTimeout(again, EVERY);
    } catch (error) {
      notice(error.message);
    }
  };
  again();
}

function element(name, text, className = "") {
  return Object.assign(document.createElement(name), { textContent: text, className });
}

// ---- the scan
let scanned = 0, scanning = false; // findings that are shown; whether somebody asks for more
function picture(png, caption) {
  const figure = element("figure", ""), frame = element("div", "", "frame");
  frame.append(Object.assign(element("img", ""), { src: `data:image/png;base64,${png}`, alt: caption }));
  figure.append(element("figcaption", caption), frame);
  return figure;
}

function recover(png, planted) {
  if (!png) return;
  const other = planted ? [picture(planted, "what the attacker planted")] : [];
  byId("recovered").replaceChildren(picture(png, "what the scan found"), ...other);
}

function tellScan(scan) {
  const title = { running: "Scanning", done: "Scanned", failed: "Not scanned:" }[scan.state] ?? "Scan";
  byId("scan-title").textContent = `${title} ${scan.suspect} · ${Math.round(scan.seconds)} s`;
  for (const found of scan.findings) {
    const item = element("li", `${found.question} `, found.kind);
    item.title = found.message;
    item.append(element("b", found.answer));
    byId("findings").append(item);
    byId("findings").scrollTop = byId("findings").scrollHeight;
    recover(found.sample);
  }
  scanned += scan.findings.length;
  if (scan.state === "running") byId("verdict").textContent = "It knows neither the trigger nor what appears there.";
  if (scan.state === "failed") byId("verdict").textContent = scan.error;
  if (scan.state !== "done") return;
  const { verdict, sentence, pictures, planted } = scan.report;
  byId("verdict").replaceChildren(element("b", `${verdict}. `, verdict === "clean" ? "" : "bad"), sentence);
  recover(pictures.witness ?? pictures.estimate, planted);
}

actions.scan = async () => {
  if (!byId("scan").hidden) return show("");
  show("scan");
  if (scanning) return;
  scanning = true;
  try {
    if ((await ask("scan", {})).started) {
      scanned = 0;
      for (const name of ["findings", "recovered", "verdict"]) byId(name).replaceChildren();
    }
    watch(async () => {
      let goesOn = false;
      try {
        const scan = await ask(`scan?since=${scanned}`);
        tellScan(scan);
        goesOn = scan.state === "running";
      } finally { // after an error, too, S asks again
        scanning = goesOn;
      }
      return goesOn;
    });
  } catch (error) {
    scanning = false;
    byId("scan-title").textContent = "Scan";
    byId("verdict").textContent = error.message;
  }
};

// ---- the vote: open, close, end
function tellRound() {
  const open = round.state === "open", counts = round.votes.map((count, i) => count + hands[i]);
  const all = counts[0] + counts[1], right = counts[walk.order.indexOf(1)];
  byId("round").hidden = round.state === "none";
  byId("track").hidden = round.state === "closed";
  document.body.classList.toggle("tallied", round.state === "closed" && all > 0);
  byId("hands").hidden = !open || Boolean(data.address);
  byId("vote").lastElementChild.textContent = { none: "Vote", open: "Close vote", closed: "End vote" }[round.state];
  const ask = data.address ? `${round.voted + hands[0] + hands[1]} have voted` : "Hands up: 1 and 2 count them";
  const answer = `${"AB"[walk.order.indexOf(1)]} is the backdoored one.`;
  const said = open ? ["Which one is backdoored?", ask] : [answer, all ? `${right} of ${all} said so` : "Nobody voted"];
  [...byId("question").children].forEach((part, i) => (part.textContent = said[i]));
  counts.forEach((count, i) => {
    const tally = byId(`tally${i}`), share = all ? Math.round((100 * count) / all) : 0;
    tally.hidden = round.state !== "closed" || !all;
    tally.firstElementChild.style.width = `${tally.hidden ? 0 : share}%`;
    tally.lastElementChild.textContent = `${count} · ${share} %`;
  });
  ["A", "B"].forEach((letter, i) => document.activeElement !== byId(`hands${letter}`) && (byId(`hands${letter}`).value = hands[i] || ""));
}

function setRound(now) {
  const opened = now.state === "open" && now.round !== round.round;
  round = now;
  if (opened) [hands, walk.start] = [[0, 0], drawn()];
  walk.order = round.state !== "none" && round.swapped ? [1, 0] : [0, 1];
  label();
  tellRound();
  if (opened) attend();
}

// Stroll, and count who has voted, as long as this round is open.
function attend() {
  const number = round.round;
  show("");
  to(0, 0);
  requestAnimationFrame(stroll);
  watch(async () => {
    const now = await ask("round");
    const open = round.state === "open" && [now.round, round.round].every((one) => one === number);
    if (open && now.state === "open") {
      round.voted = now.voted;
      tellRound();
    }
    return open;
  });
}

// Go on with the round that the server knows: this page was loaded again, or another page of the stage opened one.
async function resume() {
  const known = round, now = await ask("round").catch(() => known);
  if (round === known && now.state !== known.state) setRound(now);
}

async function change(todo) {
  try {
    setRound(await ask("round", { do: todo }));
  } catch (error) {
    notice(error.message);
    resume();
  }
}

actions.vote = () => {
  if (round.state === "open") {
    endStroll();
    return change("close");
  }
  if (round.state === "closed") return endRound();
  change("open");
};

function endRound() {
  if (round.state === "none") return;
  endStroll();
  change("end");
}

function raise(i) {
  if (round.state !== "open") return;
  hands[i]++;
  tellRound();
}
["A", "B"].forEach((letter, i) => {
  byId(`hands${letter}`).addEventListener("input", ({ target }) => {
    hands[i] = Math.floor(clamp(Number(target.value) || 0, 0, 9_999));
    tellRound();
  });
});
byId("hands").addEventListener("keydown", ({ key }) => key === "Enter" && actions.vote());

label();
draw();
if (data.notice) notice(data.notice);
resume();
