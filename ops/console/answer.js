// The conversation: each question with its answer, shown as it comes, what it rests on and what must be known of it.
// Loaded before console.js, whose helpers ($, api, element, showHits) it uses when it is called.
"use strict";

const MOST_TURNS = 8;  // that go with a question: the api takes a megabyte, and a model reads fewer of them
const LONGEST_SAID = 32000;  // characters of one message, as the api takes them
let answered = [];  // {query, answer} of the conversation, oldest first
let asking = null;  // what stops the answer that is coming; null: none is

async function ask(query) {
  stopAsking();
  searches += 1;  // the hits of a search that is under way do not come in between
  const mine = new AbortController();
  const turn = openTurn(query);
  asking = mine;
  showHits([], "");
  try {
    await hear(turn, { query, filters: filters() }, mine.signal);
    if (!turn.ended) turn.note.textContent = "The answer broke off. Ask again.";
  } catch (error) {
    if (!turn.ended) turn.note.textContent = mine.signal.aborted ? "Stopped." : error.message;
  } finally {
    if (document.activeElement === turn.stop) $("query").focus();
    turn.stop.remove();
    turn.article.removeAttribute("aria-busy");  // now it is read out, as a whole
    if (asking === mine) asking = null;
  }
}

async function hear(turn, asked, signal) {
  const messages = answered.slice(-MOST_TURNS).flatMap((each) => [
    { role: "user", content: each.query }, { role: "assistant", content: each.answer.slice(0, LONGEST_SAID) },
  ]);
  const answer = await api("/v1/answer", {
    method: "POST", json: { ...asked, mode: $("mode").value, messages }, headers: { Accept: "text/event-stream" }, signal,
  });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const events = buffer.split("\n\n");
    buffer = events.pop();
    events.forEach((block) => showEvent(block, turn, asked));
  }
}

function stopAsking() {
  // Hanging up is what stops the model.
  if (asking) asking.abort();
  asking = null;
}

function openTurn(query) {
  const turn = addTurn(query);
  turn.note.textContent = "Looking …";
  turn.article.setAttribute("aria-busy", "true");
  turn.stop.addEventListener("click", () => { stopAsking(); $("query").focus(); });
  $("conversation").hidden = false;
  if (turn.article.previousElementSibling) turn.article.scrollIntoView();
  $("query").select();  // the next question takes the place of this one
  return turn;
}

function addTurn(query) {
  const article = $("turn").content.cloneNode(true).firstElementChild;
  const turn = Object.fromEntries(["asked", "understood", "said", "citations", "note", "stop", "judged"]
    .map((name) => [name, article.querySelector(`.${name}`)]));
  turn.asked.textContent = query;
  $("turns").append(article);
  return { ...turn, article };
}

function restoreTurn(query, answer) {
  // Of a conversation that was kept.  Its thumbs are not: what was pressed then is not known.
  const turn = addTurn(query);
  turn.stop.remove();
  tellAnswer(answer, turn);
  answered.push({ query, answer: answer.answer });
  $("conversation").hidden = false;
}

function showEvent(block, turn, asked) {
  const lines = block.split("\n");
  const event = (lines.find((line) => line.startsWith("event: ")) || "").slice(7);
  const data = JSON.parse((lines.find((line) => line.startsWith("data: ")) || "data: {}").slice(6));
  if (event === "hits") showHits(data.hits || [], "");
  if (event === "delta") turn.said.append(data.text ?? "");
  if (event === "restart") { turn.said.textContent = ""; turn.note.textContent = data.reason ?? ""; }
  if (event === "error") turn.note.textContent = [data.message || "It failed.", data.next].filter(Boolean).join(" ");
  if (event === "done") showAnswer(data, turn, asked);
  turn.ended ||= event === "error" || event === "done";
}

function showAnswer(answer, turn, asked) {
  // What is judged is what was searched for: a follow-up as it was asked finds nothing by itself.
  const judged = { ...asked, query: answer.question ?? asked.query };
  answered.push({ query: asked.query, answer: answer.answer });
  keepTurn(asked.query, answer);
  tellAnswer(answer, turn);
  turn.judged.replaceChildren(voteOnAnswer(answer, judged));
  if (!answer.hits) return;
  showHits(answer.hits, `${answer.hits.length} hits behind this answer, ${Math.round(answer.took_ms)} ms`, { ...judged, id: answer.id });
}

function tellAnswer(answer, turn) {
  if (answer.question) turn.understood.textContent = `Understood as: ${answer.question}`;
  turn.said.replaceChildren(...withLinks(answer.answer, answer.citations));
  turn.citations.replaceChildren(...answer.citations.map(citation));
  turn.note.textContent = remarks(answer).join(" ");
}

function citation(each) {
  const item = element("li");
  item.append(linkTo(each, `[${each.n}] ${each.path}`));
  if (each.page) item.append(`, page ${each.page}`);
  if (each.reindexing) item.append(element("span", "changed since; it is being indexed again", "faint"));
  if (each.quote) item.append(element("div", each.quote, "reason"));
  return item;
}

function remarks(answer) {
  const said = [answer.note, answer.degraded];
  if (!answer.refused && answer.generated_by === "extractive") {
    said.push(answer.note ? "In the documents' own words." : "In the documents' own words (no chat endpoint is set).");
  } else if (!answer.refused) {
    if (answer.generated_by) said.push(`Generated by ${answer.generated_by}.`);
    if (answer.grounded === false) said.push("Not every statement is backed by a citation.");
  }
  return said.filter(Boolean);
}

function clearConversation() {
  // Off the page; what the browser keeps of it stays.
  stopAsking();
  answered = [];
  setOpen(null);
  $("turns").replaceChildren();
  $("conversation").hidden = true;
  showHits([], "");
}

function setUpAnswers() {
  $("anew").addEventListener("click", () => {
    clearConversation();
    showHistory();
    $("query").focus();
  });
}
