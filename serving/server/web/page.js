// The page: takes images in, asks the newest version of the model, and shows what it answers.

import { UNPUBLISHED, showAnswer, spoken } from "./answers.js";
import { droppedFiles } from "./dropped_files.js";
import { $ } from "./elements.js";
import { Folder } from "./folder.js";
import { LiveCamera, hasCamera } from "./live_camera.js";
import { Refused, classify, correct, describe, explain, knowledge, servedModel } from "./server.js";
import { ShownImage } from "./shown_image.js";

const RETRY_MS = 2000; // between two looks for a model that is still loading

let model = null; // the served one: its name, its newest version, and why others failed
let running = null; // the request whose answer is awaited
let answer = null; // what is shown
let corrects = false; // whether the server takes corrections
let again = false; // the region has changed since it was sent

const shownImage = new ShownImage(
  { frame: $("image-frame"), image: $("image"), heat: $("heat"), region: $("region"), numbers: $("numbers") },
  (final) => {
    $("whole").disabled = shownImage.isWhole;
    if (final || !running) update(final);
    else again = true;
  },
);
const folder = new Folder(
  {
    section: $("many"), progress: $("progress"), done: $("done"), stop: $("stop"), filter: $("filter"),
    filterLabel: $("filter-label"), filterName: $("filter-name"), download: $("csv"), shown: $("shown"), rows: $("rows"),
    sorts: document.querySelectorAll("[data-sort]"),
  },
  (file) => {
    $("heat-on").checked = true; // who opens a row wants to see why
    open(file);
    $("back").hidden = false;
    $("back").focus({ preventScroll: true });
    $("input-title").scrollIntoView();
  },
);
const camera = new LiveCamera($("live"), classifyLive);

function complain(error) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Refused)) console.error(error);
  $("alert").textContent = error.message;
  $("alert").hidden = false;
  say("");
}

/** Tell the state; what the bars show is only spoken. */
function say(text, className = "muted") {
  Object.assign($("status"), { textContent: text, className });
}

function quiet() {
  $("alert").hidden = true;
}

/** The newest version, with its input. */
async function target() {
  if (!model?.version) await refresh();
  if (!model.version) throw new Refused(unavailable());
  const { name, version } = model;
  return { model: name, version, ...(await describe({ model: name, version })) };
}

/** Do something with the newest version; once more if the server has replaced it meanwhile. */
async function withTarget(work) {
  try {
    return await work(await target());
  } catch (error) {
    if (error.status !== 404) throw error;
    return work(await newest());
  }
}

/** The newest version, where the server has replaced the one that was asked. */
async function newest() {
  await refresh();
  return target();
}

function unavailable() {
  const why = model.failures.length ? ` ${model.failures[0]}` : " It may still be loading; try again in a moment.";
  return `No version of ${model.name} is available.${why}`;
}

async function refresh() {
  model = await servedModel();
  await showKnowledge();
}

/** Say what the newest version has learned, and what can be dropped. */
async function showKnowledge() {
  const { name, version } = model;
  const unknown = { classes: [], count: 0, figures: "", tellsUnlike: false, corrects: false };
  const known = version ? await knowledge({ model: name, version }) : unknown;
  const { classes, count, figures, tellsUnlike } = known;
  corrects = known.corrects;
  const others = count > classes.length ? ` and ${count - classes.length} others` : "";
  const of = version === UNPUBLISHED ? "not published" : `version ${version}`;
  const accuracy = figures && ` ${figures[0].toUpperCase()}${figures.slice(1)}.`;
  const limit = tellsUnlike ? "" : " It cannot tell what is unlike all that it has learned.";
  $("knows").textContent = count ? `Model ${name}, ${of}. Knows: ${classes.join(", ")}${others}.${accuracy}${limit}` : "";
  const either = new Intl.ListFormat("en", { type: "disjunction" }).format(classes);
  const what = count ? `photographs of ${either}${others}` : "images";
  $("invitation").textContent = `Drop ${what} here, or folders of them, or paste an image.`;
}

/** Classify the image or its region; a new request replaces the one before it. */
async function update(announce = true) {
  if (!shownImage.blob) return;
  running?.abort();
  const control = (running = new AbortController());
  const isLatest = () => running === control;
  again = false;
  $("answers").classList.add("old");
  try {
    const blob = await shownImage.encoded();
    const [by, answered] = await withTarget(async (each) => [each, await classify(each, blob, control.signal)]);
    if (!isLatest()) return;
    quiet();
    show(answered);
    $("answers").classList.remove("old");
    if (announce) say(spoken(answer, asked()), "unseen");
    offerCorrection();
    $("heat-choice").hidden = !by.hasCam || !shownImage.bitmap;
    shownImage.clearHeat();
    if ($("heat-on").checked && by.hasCam && shownImage.bitmap) {
      const rows = await explain(by, blob, control.signal);
      if (isLatest()) shownImage.drawHeat(rows);
    }
  } catch (error) {
    if (!isLatest()) return;
    $("answers").replaceChildren();
    shownImage.clearHeat();
    complain(error);
  } finally {
    if (isLatest()) {
      running = null;
      if (again) update(true);
    }
  }
}

/** The probability that an answer needs, from 0 to 1. */
const asked = () => $("asked").valueAsNumber / 100;

function show(answered) {
  answer = answered;
  showAnswer($("answers"), answer, asked());
}

/** Ask whether the answer is right, where the server keeps what people say. */
function offerCorrection() {
  $("corrected").hidden = true;
  $("correct").hidden = !corrects || !answer;
  if ($("correct").hidden) return;
  const [first, ...others] = answer.classes.map(({ name }) => name);
  const choices = others.sort().map((name) => new Option(name));
  $("or").replaceChildren(new Option("…"), ...choices, new Option("none of these", ""));
  $("right").value = first;
}

/** Put the image into the folder of a class, or out of all of them without a class, and say so. */
async function keepAs(label) {
  try {
    await withTarget((each) => correct(each, label, shownImage.blob));
    quiet();
    const kept = `Kept as ${label}, for the next run. The terminal of the server says how to learn from it.`;
    $("corrected").textContent = label ? kept : "Not kept among the corrections.";
    $("corrected").hidden = false;
  } catch (error) {
    complain(error);
  }
}

/** Show no image and no answer, in the place of those before. */
function clear() {
  running?.abort();
  running = null;
  endCamera();
  shownImage.clear();
  $("name").textContent = "";
  $("back").hidden = true;
  $("tools").hidden = true;
  $("answers").replaceChildren();
  answer = null;
  offerCorrection();
}

async function startCamera() {
  clear();
  quiet();
  try {
    await camera.start();
    showCameraButtons();
    say("The labels follow the picture of the camera.");
  } catch (error) {
    endCamera();
    complain(error);
  }
}

/** Show the labels of the picture of the camera; an error ends it, or it would come again and again. */
async function classifyLive(picture) {
  try {
    const answered = await withTarget((each) => classify(each, picture));
    if (camera.stream) show(answered);
  } catch (error) {
    endCamera();
    complain(error);
  }
}

async function keepPicture() {
  open(await camera.picture());
}

function endCamera() {
  camera.stop();
  showCameraButtons();
}

function showCameraButtons() {
  $("start-camera").hidden = !hasCamera() || Boolean(camera.stream);
  $("keep-picture").hidden = !camera.stream;
  $("stop-camera").hidden = !camera.stream;
}

async function open(file) {
  endCamera();
  $("back").hidden = true;
  const name = file.name || "pasted image";
  $("name").textContent = name;
  $("image-frame").hidden = false;
  $("answers").replaceChildren();
  answer = null;
  offerCorrection();
  quiet();
  say("Classifying …");
  const drawn = await shownImage.show(file, name);
  if (shownImage.blob !== file) return; // another image was chosen meanwhile
  $("image-frame").hidden = !drawn;
  $("tools").hidden = !drawn;
  $("whole").disabled = true;
  if (!drawn) $("name").textContent = `${name} – this browser cannot show it.`;
  await update();
  // On a phone, the answer may stand below the window.
  const shown = $("alert").hidden ? $("answers").querySelector(".label") : $("alert");
  shown?.scrollIntoView({ block: "nearest" });
}

/** Take files from any source: one is shown, several make a table. */
async function take(files) {
  if (!files.length) return;
  if (files.length === 1) return void open(files[0]);
  try {
    quiet();
    const asked = await withTarget((each) => each);
    clear();
    say("The labels are in the table below.");
    $("many").hidden = false;
    $("many").scrollIntoView();
    await folder.classify(asked, files, newest);
  } catch (error) {
    complain(error);
  }
}

for (const [button, input] of [["choose", "file"], ["photograph", "camera"], ["choose-folder", "folder"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", () => {
    take([...$(input).files].filter((file) => input !== "folder" || !file.name.startsWith(".")));
    $(input).value = ""; // the same file can be chosen again
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) take([...event.clipboardData.files]);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("input").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("input").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("input").classList.remove("over");
  droppedFiles(event.dataTransfer).then(take, complain);
});
$("start-camera").addEventListener("click", startCamera);
$("keep-picture").addEventListener("click", keepPicture);
$("stop-camera").addEventListener("click", () => {
  clear();
  say("The labels of your image will appear here.");
});
$("back").addEventListener("click", () => folder.back());
$("correct").addEventListener("submit", (event) => {
  event.preventDefault();
  keepAs($("right").value);
});
$("or").addEventListener("change", () => $("or").selectedIndex && keepAs($("or").value));
$("asked").addEventListener("input", () => {
  $("asked-share").textContent = `${$("asked").value} %`;
  folder.ask(asked());
  if ($("answers").hasChildNodes()) show(answer);
});
$("whole").addEventListener("click", () => shownImage.reset());
$("heat-on").addEventListener("change", () => update());

/** Offer the examples that the server has put into the page. */
function offerExamples() {
  const images = document.querySelectorAll("#example-images img");
  $("examples").hidden = !images.length;
  for (const { src, alt, parentElement: button } of images) {
    button.addEventListener("click", async () => {
      const blob = await (await fetch(src)).blob();
      take([new File([blob], alt, { type: blob.type })]);
    });
  }
}

/** Look for the model, again and again until it can be asked. */
async function start() {
  try {
    await refresh();
    if (!model.version) throw new Refused(unavailable());
    if (shownImage.blob) update(); // chosen before there was a model to ask
    else quiet();
  } catch (error) {
    complain(error);
    setTimeout(start, RETRY_MS);
  }
}

showCameraButtons();
offerExamples();
start();
