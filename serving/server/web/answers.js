// Labels with their probabilities as bars.

import { element, percent } from "./elements.js";

const FIRST = 10; // classes shown before "Show all"
export const UNPUBLISHED = "0"; // number of a model that no run has published
const UNSURE = "Unsure, most probably";
const UNLIKE = "This image is unlike all images from which the model has learned. It knows no other answers than these, so do not rely on them.";

function row({ name, probability }) {
  const fill = element("span");
  fill.style.width = `${probability * 100}%`;
  return element(
    "li", {},
    element("span", { text: name, className: "name", dir: "auto" }),
    element("span", { text: percent(probability), className: "number" }),
    element("div", { className: "bar", ariaHidden: "true" }, fill),
  );
}

const named = (version) => (version === UNPUBLISHED ? "Not published" : `Version ${version}`);

/** Show an answer, which is unsure if no class has the probability that is asked for. */
export function showAnswer(place, answer, asked) {
  const [{ name, probability }] = answer.classes;
  const list = element("ol", { className: "classes" }, ...answer.classes.slice(0, FIRST).map(row));
  const parts = [
    element("h3", { text: named(answer.version) }),
    element("p", { text: name, className: "label", dir: "auto" }),
  ];
  if (probability < asked) parts.splice(1, 0, element("p", { text: UNSURE, className: "label unsure" }));
  if (answer.unlike) parts.push(element("p", { text: UNLIKE, className: "alert unlike" }));
  parts.push(list);
  if (answer.classes.length > FIRST) {
    const all = element("button", { text: `Show all ${answer.classes.length} classes`, type: "button" });
    all.addEventListener("click", () => {
      list.replaceChildren(...answer.classes.map(row));
      all.remove();
    });
    parts.push(all);
  }
  place.replaceChildren(...parts);
}

/** An answer in one sentence for people who do not see the bars. */
export function spoken({ version, unlike, classes: [{ name, probability }] }, asked) {
  const unsure = probability < asked ? "Unsure, most probably " : "";
  return `${named(version)}: ${unsure}${name}, ${percent(probability)}.${unlike ? ` ${UNLIKE}` : ""}`;
}
