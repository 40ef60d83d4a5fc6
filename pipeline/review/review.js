// The page of a review: shows one image after the other and saves each answer at once.

import * as pairs from "./pairs.js";
import { $, ask, complain, count, load, plain, post, token } from "./requests.js";

const LOST = "Open the page at the address that imgpipe review prints: this one has no token.";
const NAMED = 9; // classes with a button and a digit

let questions = []; // those of all kinds, in order
let classes = [];
let kind = "";
let current = null; // the question that is shown
let busy = false;
let typical = {}; // images by class
let pair = null; // the pair of classes that is shown instead of a question
let rounds = []; // number of images of each answer, of which an answer for a pair has several
let shown = 0; // counts the questions that were shown, so that a late image is not drawn

const mine = () => questions.filter((question) => question.kind === kind);
const open = (question) => !question.answer || question.answer.verdict === "skip";
const words = { accept: "The label is right", reject: "Left out", skip: "Skipped" };
/** What accepting means, on the button and afterwards. */
const accepted = {
  doubtful: ["The label is right", "The label is right"],
  mistake: ["The label is right", "The label is right"],
  near: ["Keep it as it is", "Kept as it is"],
  rejected: ["Use it as it is", "Used as it is"],
};
const told = ({ verdict, label }) => (verdict === "relabel" ? `Relabelled to ${plain(label)}` : words[verdict]);

function draw() {
  const all = mine();
  for (const button of $("kinds").querySelectorAll("button")) {
    const some = questions.filter((question) => question.kind === button.dataset.kind);
    button.hidden = !some.length;
    button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    button.querySelector("span").textContent = `${some.filter((question) => !open(question)).length} of ${some.length}`;
  }
  pairs.offer(["doubtful", "mistake"].includes(kind) && !pair ? pairs.pairsOf(all.filter(open)) : [], showPair);
  $("pair").hidden = !pair;
  $("question").hidden = !current || Boolean(pair);
  drawEnd();
  if (!current) return;
  const { image, answer, why, suggestion } = current;
  $("label").textContent = image.label ? `Labelled ${plain(image.label)}` : "No label";
  $("why").replaceChildren(...why.map((text) => Object.assign(document.createElement("li"), { textContent: plain(text) })));
  $("path").textContent = plain(image.path);
  [$("accept-words").textContent, words.accept] = accepted[current.kind];
  const state = answer ? `${told(answer)}.` : "Not decided yet.";
  $("given").textContent = `${all.indexOf(current) + 1} of ${all.length} · ${image.split || "no split"} · ${state}`;
  explain("no-accept", current.no_accept && `It cannot be used as it is. ${current.no_accept}.${current.no_relabel ? "" : " Or choose its right class here."}`);
  explain("no-relabel", current.no_relabel);
  $("relabel").hidden = Boolean(current.no_relabel);
  $("accept").disabled = Boolean(current.no_accept);
  // Blue is what Enter does: to change a doubtful label to the class that is suggested.
  for (const verdict of ["accept", "skip"]) {
    $(verdict).classList.toggle("main", byEnter() === verdict);
    $(`${verdict}-enter`).hidden = byEnter() !== verdict;
  }
  for (const verdict of ["accept", "reject", "skip"]) $(verdict).classList.toggle("chosen", answer?.verdict === verdict);
  drawClasses(image, byEnter() ? "" : suggestion, answer, Boolean(current.no_accept));
}

/** What Enter does besides changing a label: a doubtful label that cannot be changed is skipped. */
function byEnter() {
  if (!current || (current.kind === "doubtful" && !current.no_relabel)) return null;
  if (current.kind === "doubtful") return "skip";
  return current.no_accept ? null : "accept";
}

/** After the last answer: what was decided, and the command that applies it. */
function drawEnd() {
  const ended = !current && !pair;
  const given = questions.map((question) => question.answer?.verdict).filter(Boolean);
  const times = (verdict) => given.filter((one) => one === verdict).length;
  const decided = given.length - times("skip");
  $("end-title").textContent = ended ? `${decided} of ${count(questions.length, "image is", "images are")} decided` : "Apply the decisions";
  $("apply-words").textContent = ended ? "Run the pipeline with them:" : "When you have decided, run the pipeline with them:";
  const lines = [
    [times("relabel"), "label is", "labels are", "changed"],
    [times("accept"), "image is", "images are", "kept as labelled"],
    [times("reject"), "image is", "images are", "left out"],
    [times("skip"), "image is", "images are", "skipped and undecided"],
  ];
  $("decided").replaceChildren(...lines.filter(([number]) => number).map(([number, one, many, what]) =>
    Object.assign(document.createElement("li"), { textContent: `${count(number, one, many)} ${what}` })));
  $("decided").hidden = !ended;
  $("after").hidden = !ended;
  $("apply-part").hidden = ended && !decided;
  if (ended) $("end-title").focus();
}

function explain(id, text) {
  $(id).hidden = !text;
  $(id).textContent = plain(text);
}

/**
 * The first classes as buttons, each with the same digit on every image, and all others in a list.
 * The suggested class is the first one and has Enter, too. The own label is among them only if it
 * cannot be accepted, as where an identical file has another label.
 */
function drawClasses(image, suggestion, answer, withOwn) {
  const offered = classes.filter((name) => withOwn || name !== image.label);
  const suggested = offered.includes(suggestion) ? [suggestion] : [];
  const named = [...suggested, ...classes.slice(0, NAMED).filter((name) => offered.includes(name) && name !== suggestion)];
  $("classes").replaceChildren(...named.map((name) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const place = classes.indexOf(name);
    const keys = [...(name === suggestion ? ["Enter"] : []), ...(place < NAMED ? [String(place + 1)] : [])];
    button.append(plain(name));
    for (const key of keys) button.append(" ", Object.assign(document.createElement("kbd"), { textContent: key }));
    button.dataset.label = name;
    button.dataset.keys = keys.join(" ");
    button.classList.toggle("main", name === suggestion);
    button.classList.toggle("chosen", answer?.verdict === "relabel" && answer.label === name);
    button.addEventListener("click", () => decide("relabel", name));
    return button;
  }));
  const listed = offered.filter((name) => !named.includes(name));
  $("more").hidden = !listed.length;
  $("class").replaceChildren(...listed.map((name) => Object.assign(document.createElement("option"), { value: name, textContent: plain(name) })));
  if (answer?.verdict === "relabel" && listed.includes(answer.label)) $("class").value = answer.label;
}

function figure(image, subject) {
  const box = document.createElement("figure");
  const frame = Object.assign(document.createElement("div"), { className: "frame" });
  const caption = document.createElement("figcaption");
  const name = `${image.label ? plain(image.label) : "no label"}${image.split ? `, ${image.split}` : ""}`;
  caption.textContent = subject ? `To decide: ${name}` : `Similar image: ${name}, ${plain(image.path)}`;
  box.classList.toggle("subject", subject);
  box.append(frame, caption);
  const round = shown;
  load(image.image_hash).then(
    (address) => {
      if (round === shown) frame.replaceChildren(Object.assign(document.createElement("img"), { src: address, alt: caption.textContent }));
    },
    (error) => {
      frame.replaceChildren(Object.assign(document.createElement("p"), { textContent: error.message }));
    },
  );
  return box;
}

function show(question) {
  current = question;
  pair = null;
  shown += 1;
  $("images").replaceChildren();
  $("typical").replaceChildren();
  if (current) {
    $("images").append(figure(current.image, true), ...current.beside.map((image) => figure(image, false)));
    if (current.suggestion) $("typical").append(...pairs.typicalRows([current.image.label, current.suggestion], typical));
    const all = mine();
    const following = all[all.indexOf(current) + 1];
    if (following) for (const image of [following.image, ...following.beside]) load(image.image_hash).catch(() => {});
  }
  draw();
}

/** Show the next question without an answer, from a position on and then from the start. */
function advance(from) {
  const all = mine();
  const rest = [...all.slice(from), ...all.slice(0, from)];
  const following = rest.find((question) => !question.answer);
  if (following) return show(following);
  const elsewhere = questions.find((question) => !question.answer);
  if (elsewhere) {
    kind = elsewhere.kind;
    return show(elsewhere);
  }
  const skipped = questions.filter(open).length;
  $("status").textContent = skipped ? `All images were seen; ${count(skipped, "was", "were")} skipped.` : "All images are decided.";
  return show(null);
}

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

const decide = (verdict, label = "") => exclusive(async () => {
  if (!current || (verdict === "accept" && current.no_accept) || (verdict === "relabel" && current.no_relabel)) return;
  const decided = current;
  const { answer } = await post("review/answers", { image: decided.image.image_hash, verdict, label });
  decided.answer = answer;
  rounds.push(1);
  $("status").textContent = `${told(answer)}: ${plain(decided.image.path)}`;
  advance(mine().indexOf(decided) + 1);
});

function showPair(chosen) {
  pair = chosen;
  draw();
  pairs.showPair(pair, typical);
}

/** Save an answer for each image of the pair that is shown; one undo takes all of them back. */
const decidePair = () => exclusive(async () => {
  const chosen = pairs.chosenTiles();
  const { suggestion } = pair;
  const decided = pair.questions.slice(0, chosen.length);
  let saved = 0;
  try {
    for (const [place, question] of decided.entries()) {
      const given = chosen[place] ? { verdict: "relabel", label: suggestion } : { verdict: "accept", label: "" };
      const { answer } = await post("review/answers", { image: question.image.image_hash, ...given });
      question.answer = answer;
      saved += 1;
    }
  } finally {
    if (saved) rounds.push(saved);
  }
  const changed = chosen.filter(Boolean).length;
  $("status").textContent = `${count(saved, "label is", "labels are")} decided, ${changed} of them changed to ${plain(suggestion)}.`;
  advance(0);
});

const undo = () => exclusive(async () => {
  let image = "";
  for (let left = rounds.pop() ?? 1; left > 0; left -= 1) ({ image } = await post("review/undo", {}));
  if (!image) {
    $("status").textContent = "There is nothing to undo.";
    return;
  }
  await refresh();
  const undone = questions.find((question) => question.image.image_hash === image);
  if (undone) {
    kind = undone.kind;
    show(undone);
    $("status").textContent = `Undone: ${plain(undone.image.path)}`;
  }
});

function step(by) {
  const all = mine();
  const at = current ? all.indexOf(current) + by : 0;
  const to = all[at];
  if (to) show(to);
}

async function refresh() {
  const state = await (await ask("review")).json();
  ({ questions, classes, typical } = state);
  return state;
}

for (const verdict of ["accept", "reject", "skip"]) $(verdict).addEventListener("click", () => decide(verdict));
for (const id of ["undo", "undo-last"]) $(id).addEventListener("click", undo);
$("again").addEventListener("click", () => show(mine()[0]));
$("pair-save").addEventListener("click", decidePair);
$("pair-back").addEventListener("click", () => show(current));
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("more").addEventListener("submit", (event) => {
  event.preventDefault();
  decide("relabel", $("class").value);
});
$("kinds").addEventListener("click", (event) => {
  const chosen = event.target.closest("button")?.dataset.kind;
  if (!chosen) return;
  kind = chosen;
  show(mine().find((question) => !question.answer) ?? mine()[0]);
});
document.addEventListener("click", (event) => {
  // Enter is the blue button, and not the one that the mouse has pressed before.
  if (event.detail) event.target.closest("button")?.blur();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !$("keys").checked) return;
  if (event.repeat && !event.key.startsWith("Arrow")) return; // a held key decides only one image
  if (event.target.matches("select, input:not([type=checkbox])")) return;
  if (pair) {
    if (event.key === "Escape") show(current);
    return;
  }
  const keys = {
    a: () => decide("accept"), x: () => decide("reject"), s: () => decide("skip"), u: undo,
    Enter: byEnter() ? () => decide(byEnter()) : null,
    r: () => $("more").hidden || $("class").focus(), ArrowLeft: () => step(-1), ArrowRight: () => step(1),
  };
  if (event.key === "Enter" && event.target.closest("button, summary, a")) return; // which it presses
  const offered = $("relabel").hidden ? [] : [...$("classes").children];
  const button = offered.find(({ dataset }) => dataset.keys.split(" ").includes(event.key));
  const act = button ? () => decide("relabel", button.dataset.label) : keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

async function start() {
  if (!token) throw new Error(LOST);
  const state = await refresh();
  $("run").textContent = `Run ${state.run}`;
  $("file").textContent = plain(state.file);
  $("apply").textContent = plain(state.apply);
  const notes = ["Labels of the test split never change.", "An image that is skipped stays undecided."];
  if (state.not_asked) notes.push(`${count(state.not_asked, "rejected file is", "rejected files are")} not asked about: no decision makes a damaged file readable, and of identical files one is used. imgpipe quarantine list shows all rejected files.`);
  $("notes").textContent = notes.join(" ");
  $("end").hidden = false;
  $("kinds").hidden = false;
  $("status").textContent = "";
  kind = questions[0].kind;
  advance(0);
}

start().catch((error) => {
  $("status").textContent = "";
  complain(error);
});
