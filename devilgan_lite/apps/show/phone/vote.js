// A round of votes on the phone: two large buttons while the stage asks which one is backdoored.
"use strict";
const choices = [...document.querySelectorAll("[data-choice]")];
const behind = document.querySelectorAll("body > header, body > main, body > footer");
const voter = kept();
let vote = { round: 0, state: "none" }, choice = "", seen = 0; // seen: the round whose result was put away

// One number for each phone, also after the page is loaded again.
function kept() {
  const fresh = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  try {
    const known = localStorage.getItem("voter") ?? fresh;
    localStorage.setItem("voter", known);
    return known;
  } catch { // a phone that keeps nothing
    return fresh;
  }
}

function tellVote() {
  const open = vote.state === "open", closed = vote.state === "closed" && seen !== vote.round && Boolean(choice);
  byId("vote").hidden = !open && !closed;
  behind.forEach((part) => (part.inert = open || closed));
  byId("leave").hidden = !closed;
  for (const button of choices) {
    button.setAttribute("aria-pressed", button.dataset.choice === choice);
    button.disabled = !open;
  }
  if (open) byId("said").textContent = choice ? `You chose ${choice}. You can change it until the vote closes.` : "";
  if (!closed) return;
  const all = vote.votes[0] + vote.votes[1], right = vote.votes["AB".indexOf(vote.answer)];
  const own = choice === vote.answer ? "You found it" : `You chose ${choice}`;
  byId("said").textContent = `${own}: ${vote.answer} is the backdoored one. ${right} of ${all} phones said so.`;
}

async function question(path, content) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) };
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout?.(10_000), ...(content && post) });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

for (const button of choices) {
  button.addEventListener("click", async () => {
    try {
      await question("vote", { round: vote.round, voter, choice: button.dataset.choice });
      choice = button.dataset.choice;
      tellVote();
    } catch (error) {
      byId("said").textContent = `Your vote did not arrive: ${error.message}`;
    }
  });
}
byId("leave").addEventListener("click", () => {
  seen = vote.round;
  tellVote();
});

// Every two seconds or so, not all phones at once, and only while somebody looks.
async function listen() {
  try {
    if (!document.hidden) {
      const now = await question("round");
      if (now.round !== vote.round) choice = "";
      if (now.round !== vote.round || now.state !== vote.state) {
        vote = now;
        tellVote();
      }
    }
  } catch { // the stage is away; the pictures go on without it
    if (!byId("vote").hidden) byId("said").textContent = "The stage does not answer.";
  }
  setTimeout(listen, 1_500 + 1_000 * Math.random());
}
listen();
