// The page of a review: views of the images of a run, and decisions about them.

import { $, count, element } from "./elements.js";
import { Gallery } from "./gallery.js";
import { complain, load, plain, read, smallPicture, token } from "./requests.js";
import { showImage } from "./viewer.js";

const LOST = "Open the page at the address that imgpipe review prints: this one has no token.";
const NAMED = 9; // classes with a button and a digit
const KINDS = {
  doubtful: "Doubtful labels", mistakes: "Mistakes of the model", unlike: "Unlike their class", copies: "Copies",
  rejected: "Rejected", decided: "Decided", all: "All images",
};
const TOLD = { accept: "Kept as labelled", reject: "Left out", "": "Undecided" };

let state = {}; // what the review says of the run
let view = {}; // the kind, label, answer and order of the images that are shown
let page = { total: 0, start: 0, images: [] }; // the part of the view that is loaded
let alone = null; // number in the page of the image that is shown alone
let ended = false; // whether the last image of a view was passed
let busy = false;

const told = ({ verdict, label }) => TOLD[verdict] ?? `Label is ${plain(label)}`;
const isDecided = (image) => Boolean(image.decision.verdict);
const targets = () => (alone === null ? gallery.chosenItems : [page.images[alone]]);

/** The content of a tile: the image, its label, another answer, and what is decided. */
function tile(image) {
  const differs = image.answer && image.answer !== image.label;
  const sure = Math.round(100 * image.sure);
  const answer = image.answer && `${differs ? `answer ${plain(image.answer)} ` : ""}${sure}\u00a0%`;
  const parts = [
    smallPicture(image, plain(image.path)),
    element("span", { className: "name", text: plain(image.label) || "no label" }),
    element("span", { className: differs ? "name bad" : "muted", text: answer || plain(image.why[0] ?? "") }),
  ];
  if (isDecided(image)) parts.push(element("span", { className: "decision", text: `✓ ${told(image.decision)}` }));
  return parts;
}

const gallery = new Gallery($("gallery"), { draw: tile, opened: look, changed: draw });

async function exclusive(work) {
  if (busy) return;
  busy = true;
  try {
    $("alert").hidden = true;
    await work();
  } catch (error) {
    complain(error);
  } finally {
    busy = false;
  }
}

/** Load the images of the view from a place on. */
async function fetchPage(start) {
  page = await read(`review/images?${new URLSearchParams({ ...view, start })}`);
  gallery.show(page.images);
}

/** Show the images of a view from a place on. */
const open = (changes, start = 0) => exclusive(async () => {
  view = { ...view, ...changes };
  [alone, ended] = [null, false];
  await fetchPage(start);
  say("");
  draw();
});

/** Show one image alone; beyond the page, the first or the last one of the next page. */
async function look(number) {
  if (!page.images.length) return;
  const place = page.start + number;
  ended = place >= page.total;
  if (!ended && place >= 0) {
    if (number >= page.images.length) await fetchPage(place);
    else if (number < 0) await fetchPage(Math.max(0, place + 1 - state.page));
    alone = place - page.start;
    const next = page.images[alone + 1];
    if (next?.image_hash) load(next.image_hash).catch(() => {});
    const image = page.images[alone];
    const where = `${(place + 1).toLocaleString("en")} of ${page.total.toLocaleString("en")}`;
    showImage(image, state.typical, `${where} · ${told(image.decision)}`);
  } else if (ended) alone = null;
  draw();
}

const step = (by) => alone !== null && exclusive(() => look(alone + by));

/** Show the next image that is not decided, or the end of the view. */
async function advance() {
  do await look(alone + 1);
  while (alone !== null && isDecided(page.images[alone]));
}

const decide = (verdict, label = "") => exclusive(async () => {
  const images = targets().filter((image) => image.image_hash);
  if (!images.length) return say("Choose images first.");
  const hashes = [...new Set(images.map((image) => image.image_hash))];
  const answer = await read("review/answers", { images: hashes, verdict, label });
  const left = hashes.length - Object.keys(answer.decisions).length;
  note(answer);
  say(`${images.length > 1 ? count(hashes.length - left, "image", "images") : plain(images[0].path)}: ${told({ verdict, label })}.` +
    (left ? ` Not possible for ${left}.` : ""));
  if (alone !== null) await advance();
  else gallery.chooseNone();
});

/** Take what the review says of decisions over into the page. */
function note({ decisions, decided }) {
  state.decided = decided;
  for (const image of page.images) image.decision = decisions[image.image_hash] ?? image.decision;
  gallery.redraw((image) => image.image_hash in decisions);
  draw();
}

const undo = () => exclusive(async () => {
  const answer = await read("review/undo", {});
  const hashes = Object.keys(answer.decisions);
  note(answer);
  say(hashes.length ? `Undone: ${count(hashes.length, "decision", "decisions")}.` : "There is nothing to undo.");
  const number = page.images.findIndex((image) => hashes.includes(image.image_hash));
  if ((alone !== null || ended) && number >= 0) await look(number);
});

/** Do what is proposed for the image that is shown alone: to skip it, unless it is surely wrong. */
function propose() {
  const { verdict, label } = page.images[alone].proposal;
  if (verdict) decide(verdict, label);
  else step(1);
}

function say(text) {
  $("status").textContent = text;
}

/** Draw all that is not the images. */
function draw() {
  const image = alone === null ? null : page.images[alone];
  const chosen = gallery.chosen.size;
  $("many").hidden = Boolean(image) || ended;
  $("viewer").hidden = !image;
  $("actions").hidden = ended;
  for (const part of document.querySelectorAll("[data-in]")) part.hidden = (part.dataset.in === "viewer") !== Boolean(image);
  drawViews();
  drawEnd();
  const [first, last] = [page.start + 1, page.start + page.images.length];
  $("shown").textContent = page.total ? `${first.toLocaleString("en")} to ${last.toLocaleString("en")} of ${count(page.total, "image", "images")}` : "No image is in this view.";
  $("before").disabled = page.start === 0;
  $("after").disabled = last >= page.total;
  $("chosen").textContent = `${chosen} chosen`;
  $("range").ariaPressed = String(gallery.range);
  $("accept-words").textContent = view.kind === "rejected" ? "Use it as it is" : "The label is right";
  drawActions(image, image ? 1 : chosen);
}

/** The buttons that decide; blue is what Enter does to an image that is shown alone. */
function drawActions(image, number) {
  const proposal = image?.proposal ?? { verdict: "none" };
  const isMain = (verdict, label = "") => proposal.verdict === verdict && proposal.label === label;
  const key = (text) => element("kbd", { text });
  $("accept").disabled = !number || Boolean(image?.no_accept);
  for (const [id, verdict] of [["reject", "reject"], ["skip", ""]]) {
    $(id).classList.toggle("main", isMain(verdict));
    $(id).querySelector("[data-enter]").hidden = !isMain(verdict);
  }
  for (const id of ["reject", "forget"]) $(id).disabled = !number || image?.image_hash === "";
  const suggested = proposal.label && state.classes.indexOf(proposal.label) >= NAMED ? [proposal.label] : [];
  $("classes").replaceChildren(...[...state.classes.slice(0, NAMED), ...suggested].map((name, place) => {
    const keys = [...(isMain("relabel", name) ? ["Enter"] : []), ...(place < NAMED ? [String(place + 1)] : [])];
    const button = element("button", { type: "button", className: isMain("relabel", name) ? "main" : "", text: plain(name) });
    button.append(...keys.flatMap((text) => [" ", key(text)]));
    button.disabled = !number || Boolean(image?.no_relabel);
    button.addEventListener("click", () => decide("relabel", name));
    return button;
  }));
  $("more").hidden = state.classes.length <= NAMED;
}

/** The kinds of images, and the labels and answers, with their numbers. */
function drawViews() {
  const decided = Object.values(state.decided).reduce((sum, each) => sum + each, 0);
  const kinds = { ...state.kinds, decided };
  $("kinds").replaceChildren(...Object.entries(KINDS).filter(([kind]) => kinds[kind] || kind === view.kind).map(([kind, title]) => {
    const button = element("button", { type: "button", ariaPressed: String(kind === view.kind), text: `${title} ${kinds[kind].toLocaleString("en")}` });
    button.addEventListener("click", () => open({ kind, label: "", answer: "", order: "" }));
    return button;
  }));
  const other = view.kind !== "all"; // the numbers are those of all images
  const add = (cells, by) => cells.reduce((sums, cell) => sums.set(cell[by], (sums.get(cell[by]) ?? 0) + cell[2]), new Map());
  const labels = add(state.cells, 0);
  const answers = add(state.cells.filter(([label]) => !view.label || label === view.label), 1);
  for (const [id, sums] of [["label", labels], ["answer", answers]]) {
    const options = state.classes.map((name) => new Option(other ? plain(name) : `${plain(name)} (${(sums.get(name) ?? 0).toLocaleString("en")})`, name));
    $(`by-${id}`).replaceChildren(new Option("any", ""), ...options);
    $(`by-${id}`).value = view[id];
  }
  $("by-order").value = view.order;
}

/** What was decided, the command that applies it, and after a view the one that follows. */
function drawEnd() {
  const { accept = 0, relabel = 0, reject = 0 } = state.decided;
  const lines = [
    [relabel, "label is", "labels are", "changed"], [accept, "image is", "images are", "kept as labelled"],
    [reject, "image is", "images are", "left out"],
  ];
  $("decided").replaceChildren(...lines.filter(([number]) => number).map(([number, one, many, what]) =>
    element("li", { text: `${count(number, one, many)} ${what}` })));
  $("apply-part").hidden = !(accept + relabel + reject);
  $("end-title").textContent = ended ? `End of: ${KINDS[view.kind]}` : "What is decided";
  $("end").hidden = !ended && $("apply-part").hidden;
  $("following").hidden = !ended;
  if (!ended) return;
  const kinds = Object.keys(KINDS);
  const next = kinds.slice(kinds.indexOf(view.kind) + 1).find((kind) => kind !== "decided" && state.kinds[kind]);
  $("go-on").hidden = !next;
  $("go-on").textContent = next ? `Go on with: ${KINDS[next]} ${state.kinds[next].toLocaleString("en")}` : "";
  $("go-on").onclick = () => open({ kind: next, label: "", answer: "", order: "" });
  $("end-title").focus();
}

for (const verdict of ["accept", "reject"]) $(verdict).addEventListener("click", () => decide(verdict));
for (const id of ["label", "answer", "order"]) $(`by-${id}`).addEventListener("change", (event) => open({ [id]: event.target.value }));
const clicks = {
  undo, skip: () => step(1), forget: () => decide(""), every: () => gallery.chooseAll(), none: () => gallery.chooseNone(),
  previous: () => step(-1), close: leave, back: () => open({}), "look-at": () => look(gallery.at),
  before: () => open({}, Math.max(0, page.start - state.page)), after: () => open({}, page.start + page.images.length),
  range: () => { gallery.range = !gallery.range; draw(); say(gallery.range ? "Choose the last image of the range." : ""); },
};
for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
$("more").addEventListener("submit", (event) => {
  event.preventDefault();
  decide("relabel", $("class").value);
});

/** Go back from one image to all of them. */
function leave() {
  const number = alone;
  alone = null;
  draw();
  if (number !== null) gallery.focus(number);
}

document.addEventListener("click", (event) => {
  // Enter is the blue button, and not the one that the mouse has pressed before.
  if (event.detail) event.target.closest("button")?.blur();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !$("keys").checked || ended) return;
  if (event.repeat && !event.key.startsWith("Arrow")) return; // a held key decides only one image
  if (event.target.matches("select, input:not([type=checkbox])")) return;
  const everywhere = {
    a: () => $("accept").disabled || decide("accept"), x: () => $("reject").disabled || decide("reject"),
    u: undo, d: () => decide(""), Escape: alone === null ? () => gallery.chooseNone() : leave,
  };
  const inViewer = { s: () => step(1), ArrowLeft: () => step(-1), ArrowRight: () => step(1), Enter: propose };
  if (event.key === "Enter" && event.target.closest("button, summary, a")) return; // which it presses
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const button = /^[1-9]$/.test(key) ? $("classes").children[key - 1] : null;
  const act = button ? () => button.click() : everywhere[key] ?? (alone === null ? null : inViewer[key]);
  if (!act) return;
  event.preventDefault();
  act();
});

async function start() {
  if (!token) throw new Error(LOST);
  state = await read("review");
  $("run").textContent = `Run ${state.run}`;
  $("file").textContent = plain(state.file);
  $("apply").textContent = plain(state.apply);
  $("class").replaceChildren(...state.classes.map((name) => new Option(plain(name), name)));
  await open(state.view);
  $("views").hidden = false;
}

start().catch((error) => {
  say("");
  complain(error);
});
