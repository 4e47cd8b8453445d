// The conversations of this browser: in its localStorage, an item each, and nowhere else (ADR 0058).
// Under an api key they are encrypted with it: who has the browser but another key neither sees nor reads them.
// Loaded before console.js, whose helpers ($, element, ago) it uses when it is called.
"use strict";

const ITEM = "upwell-conversation";
const OPEN = "upwell-open";  // in sessionStorage: which one this tab shows, for a reload
const MOST_CONVERSATIONS = 50;
const MOST_DAYS = 90;
const MOST_CHARACTERS = 400_000;  // of one conversation; its oldest answers go first
const LONGEST_TITLE = 120;
const ROUNDS = 200_000;  // of PBKDF2: a fifth of a second for whoever tries keys
let shelf = null;  // {slot, seal, unseal}: where, and how, the conversations of the key in use are kept; null: they are not
let shelved = null;  // the key that this is about; null: none has been let in yet
let openId = null;
let histories = 0;  // a list that comes after a later one is not shown
let keeping = Promise.resolve();  // what is written is written in turn

async function shelfOf(secret) {
  localStorage.length;  // throws where the browser lets nothing be kept
  if (!secret) return { slot: "open", seal: async (text) => text, unseal: async (text) => text };
  if (!crypto.subtle) return null;  // a browser has it for https and for its own machine only
  const salt = bytesOf(localStorage.getItem("upwell-salt") || textOf(crypto.getRandomValues(new Uint8Array(16))));
  localStorage.setItem("upwell-salt", textOf(salt));
  const given = await crypto.subtle.importKey("raw", new TextEncoder().encode(secret), "PBKDF2", false, ["deriveBits"]);
  const bits = await crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt, iterations: ROUNDS }, given, 512);
  const aes = await crypto.subtle.importKey("raw", bits.slice(0, 32), "AES-GCM", false, ["encrypt", "decrypt"]);
  return {
    slot: [...new Uint8Array(bits.slice(32, 48))].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
    seal: async (text) => {
      const iv = crypto.getRandomValues(new Uint8Array(12));
      const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, aes, new TextEncoder().encode(text));
      return `${textOf(iv)}.${textOf(new Uint8Array(sealed))}`;
    },
    unseal: async (text) => {
      const [iv, sealed] = text.split(".").map(bytesOf);
      return new TextDecoder().decode(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, aes, sealed));
    },
  };
}

function textOf(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function items() {
  // Names and times of this key's conversations, the newest first.  What is older than MOST_DAYS goes, whosever it is.
  const found = [];
  for (const name of Object.keys(localStorage).filter((each) => each.startsWith(`${ITEM}/`))) {
    const at = Number(localStorage.getItem(name).split(" ", 1)[0]);
    if (!(at > Date.now() - MOST_DAYS * 86_400_000)) localStorage.removeItem(name);
    else if (name.startsWith(`${ITEM}/${shelf.slot}/`)) found.push({ name, at, id: name.split("/")[2] });
  }
  return found.sort((one, other) => other.at - one.at);
}

async function turnsOf(id) {
  const kept = shelf && localStorage.getItem(`${ITEM}/${shelf.slot}/${id}`);
  if (!kept) return null;
  try {
    return JSON.parse(await shelf.unseal(kept.slice(kept.indexOf(" ") + 1)));
  } catch {
    return null;  // nothing that we have written
  }
}

function inTurn(work) {
  keeping = keeping.then(work).catch((error) => { $("history-note").textContent = `Not kept. ${error.message}`; });
  return keeping;
}

function keepTurn(query, answer) {
  if (!shelf) return;
  const { hits, ...told } = answer;  // hits are many, and can be searched for again
  if (!openId) setOpen(`${Date.now().toString(36)}${Math.random().toString(36).slice(2, 10)}`);
  const [id, place] = [openId, shelf];
  inTurn(async () => {
    const turns = [...(await turnsOf(id) || []), { query, answer: told }];  // another tab may have gone on with it
    while (turns.length > 1 && JSON.stringify(turns).length > MOST_CHARACTERS) turns.shift();
    if (place !== shelf) return;  // another key is in use by now
    const kept = `${Date.now()} ${await place.seal(JSON.stringify(turns))}`;
    items().slice(MOST_CONVERSATIONS - 1).forEach((each) => { if (each.id !== id) localStorage.removeItem(each.name); });
    store(`${ITEM}/${place.slot}/${id}`, kept);
    await showHistory();
  });
}

function store(name, kept) {
  for (;;) {
    try {
      localStorage.setItem(name, kept);
      return;
    } catch (error) {
      const oldest = items().filter((each) => each.name !== name).pop();
      if (!oldest) throw error;
      localStorage.removeItem(oldest.name);
    }
  }
}

function shortened(query) {
  return query.length > LONGEST_TITLE ? `${query.slice(0, LONGEST_TITLE)} …` : query;
}

function setOpen(id) {
  openId = id;
  if (id) sessionStorage.setItem(OPEN, id);
  else sessionStorage.removeItem(OPEN);
}

async function showHistory() {
  const listed = [];
  const mine = histories += 1;
  for (const each of shelf ? items() : []) {
    const turns = await turnsOf(each.id);
    if (turns?.length) listed.push({ ...each, title: shortened(turns[0].query) });
  }
  if (mine !== histories) return;
  $("history").hidden = !listed.length;
  $("history-count").textContent = listed.length;
  $("kept").replaceChildren(...listed.map(({ id, at, title }) => {
    const line = element("li");
    const open = element("button", title, "title");
    if (id === openId) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => openConversation(id));
    const drop = element("button", "Delete", "drop");
    drop.setAttribute("aria-label", `Delete the conversation ${title}`);
    drop.addEventListener("click", () => dropConversation(id));
    for (const button of [open, drop]) button.type = "button";
    line.append(open, element("span", ago(new Date(at).toISOString()), "faint"), drop);
    return line;
  }));
}

async function openConversation(id) {
  const turns = await turnsOf(id);
  if (!turns) return showHistory();
  clearConversation();
  setOpen(id);
  turns.forEach(({ query, answer }) => restoreTurn(query, answer));
  $("query").focus();
  return showHistory();
}

async function dropConversation(id) {
  const place = [...$("kept").children].findIndex((line) => line.contains(document.activeElement));
  const name = `${ITEM}/${shelf.slot}/${id}`;
  await inTurn(() => localStorage.removeItem(name));
  if (id === openId) clearConversation();
  await showHistory();
  $("history-note").textContent = "Deleted.";
  const drops = $("kept").querySelectorAll(".drop");
  (drops[Math.min(place, drops.length - 1)] || $("query")).focus();
}

async function dropAll() {
  if (!confirm("Delete all conversations that this browser keeps?")) return;
  await inTurn(() => items().forEach(({ name }) => localStorage.removeItem(name)));
  clearConversation();
  await showHistory();
  $("query").focus();
}

async function useShelf(secret) {
  // Called when the api has let a key in, or keeps it out (null): conversations belong to their key.
  if (secret === shelved) return;
  if (shelved !== null) clearConversation();
  shelved = secret;
  shelf = null;
  const place = secret === null ? null : await shelfOf(secret).catch(() => null);
  if (secret !== shelved) return;
  shelf = place;
  $("unkept").hidden = secret === null || shelf !== null;
  const id = sessionStorage.getItem(OPEN);
  const turns = id && await turnsOf(id);
  if (turns && !answered.length) {
    setOpen(id);
    turns.forEach(({ query, answer }) => restoreTurn(query, answer));
  }
  await showHistory();
}

function setUpHistory() {
  $("drop-all").addEventListener("click", dropAll);
  addEventListener("storage", async (event) => {
    // Another tab has kept or deleted something.
    if (!shelf || (event.key && !event.key.startsWith(ITEM))) return;
    if (openId && event.oldValue && !localStorage.getItem(`${ITEM}/${shelf.slot}/${openId}`)) clearConversation();
    await showHistory();
  });
}
