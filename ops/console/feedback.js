// Thumbs: what people think of a hit or an answer, kept with POST /v1/feedback.
// Loaded before console.js, whose helpers (api, element) it uses when it is called.
"use strict";

function votes(label, judgement) {
  // Two toggles.  A second press takes the vote back; the other thumb replaces it.
  const box = element("div", null, "votes");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
  const note = element("span", null, "faint");
  note.setAttribute("role", "status");
  const buttons = [["up", "👍", "Helpful"], ["down", "👎", "Not helpful"]].map(([vote, sign, name]) => {
    const button = element("button", sign);
    button.type = "button";
    button.title = name;
    button.setAttribute("aria-label", name);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => cast(vote));
    return [vote, button];
  });
  let given = null;  // {id, vote}: what the ledger has
  let busy = false;

  async function cast(vote) {
    if (busy) return;
    busy = true;
    const wanted = given?.vote === vote ? null : vote;
    try {
      if (given) await api(`/v1/feedback/${given.id}`, { method: "DELETE" });
      given = null;
      if (wanted) {
        const kept = await (await api("/v1/feedback", { method: "POST", json: { ...judgement, vote } })).json();
        given = { id: kept.id, vote };
      }
      note.textContent = given ? "Thank you." : "Taken back.";
    } catch (error) {
      note.textContent = `Not kept. ${error.message}`;
    }
    for (const [name, button] of buttons) button.setAttribute("aria-pressed", String(given?.vote === name));
    busy = false;
  }

  box.append(...buttons.map(([, button]) => button), note);
  return box;
}

function voteOnHit(hit, asked) {
  return votes(`Is this hit in ${hit.metadata.path} helpful?`,
    { kind: "hit", query_id: asked.id, query: asked.query, doc_id: hit.doc_id, chunk_id: hit.id });
}

function voteOnAnswer(answer, query) {
  return votes("Is this answer helpful?", { kind: "answer", query_id: answer.id, query, answer: answer.answer });
}
