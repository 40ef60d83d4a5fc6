// Doubtful labels of one pair of classes, which are answered in one go, and typical images.

import { $, loadSmall, plain } from "./requests.js";

const BUTTONS = 6; // pairs with a button, the largest first
const TILES = 60; // images of a pair at once; the others follow
const node = (tag, values = {}) => Object.assign(document.createElement(tag), values);

/** An image of at most 320 pixels, which appears when it has come. */
function picture(image, words) {
  const shown = node("img", { alt: words, title: plain(image.path) });
  loadSmall(image.image_hash).then((address) => { shown.src = address; }, (error) => { shown.alt = error.message; });
  return shown;
}

/** A row of typical images for each of some classes; none for a class without such images. */
export function typicalRows(names, typical) {
  return names.filter((name) => typical[name]?.length).map((name) => {
    const row = node("figure", { className: "typical" });
    const images = node("div", { className: "strip" });
    images.append(...typical[name].map((image) => picture(image, `Typical of ${plain(name)}`)));
    row.append(node("figcaption", { className: "name", textContent: `Typical of ${plain(name)}` }), images);
    return row;
  });
}

/** The undecided questions by pair of classes, of pairs with two or more, the largest first. */
export function pairsOf(questions) {
  const found = new Map();
  for (const question of questions) {
    const { image, suggestion } = question;
    if (!suggestion || !image.label || question.no_accept || question.no_relabel) continue;
    const key = JSON.stringify([image.label, suggestion]);
    if (!found.has(key)) found.set(key, { label: image.label, suggestion, questions: [] });
    found.get(key).questions.push(question);
  }
  const pairs = [...found.values()].filter((pair) => pair.questions.length > 1);
  return pairs.sort((a, b) => b.questions.length - a.questions.length).slice(0, BUTTONS);
}

/** Offer pairs as buttons. */
export function offer(pairs, choose) {
  $("pairs").hidden = !pairs.length;
  $("pair-buttons").replaceChildren(...pairs.map((pair) => {
    const text = `${plain(pair.label)} taken for ${plain(pair.suggestion)}: ${pair.questions.length}`;
    const button = node("button", { type: "button", textContent: text });
    button.addEventListener("click", () => choose(pair));
    return button;
  }));
}

/** Show the images of a pair. A click on an image chooses it: it belongs to the other class. */
export function showPair(pair, typical) {
  const label = plain(pair.label);
  const other = plain(pair.suggestion);
  $("pair-title").textContent = `Labelled ${label}, taken for ${other}`;
  $("pair-words").textContent = `Choose the images that are ${other}. All others are ${label}.`;
  $("pair-typical").replaceChildren(...typicalRows([pair.label, pair.suggestion], typical));
  $("pair-tiles").replaceChildren(...pair.questions.slice(0, TILES).map((question) => {
    const tile = node("button", { type: "button", className: "tile" });
    const caption = node("span", { className: "name" });
    const choose = (chosen) => {
      tile.setAttribute("aria-pressed", String(chosen));
      caption.textContent = chosen ? other : label;
      tell(label, other);
    };
    tile.append(picture(question.image, ""), caption);
    tile.setAttribute("aria-pressed", "false");
    caption.textContent = label;
    tile.addEventListener("click", () => choose(tile.getAttribute("aria-pressed") !== "true"));
    return tile;
  }));
  tell(label, other);
  $("pair-title").focus();
}

/** Say on the button what it saves. */
function tell(label, other) {
  const chosen = chosenTiles().filter(Boolean).length;
  const rest = chosenTiles().length - chosen;
  const parts = [chosen && `${chosen} ${chosen === 1 ? "is" : "are"} ${other}`, rest && `${rest} ${rest === 1 ? "is" : "are"} ${label}`];
  $("pair-save").textContent = `Save: ${parts.filter(Boolean).join(", ")}`;
}

/** Whether each image that is shown was chosen, in the order of the questions of the pair. */
export const chosenTiles = () => [...$("pair-tiles").children].map((tile) => tile.getAttribute("aria-pressed") === "true");
