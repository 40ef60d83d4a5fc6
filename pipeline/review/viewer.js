// One image at a time: what was found in it, similar images, and what its classes look like.

import { $, element, percent } from "./elements.js";
import { load, plain, smallPicture } from "./requests.js";

let shown = 0; // counts the images that were shown, so that a late picture is not drawn

function figure(image, subject) {
  const frame = element("div", { className: "frame" });
  const place = [image.label || "no label", image.split, image.path].filter(Boolean).join(", ");
  const text = subject ? "To decide" : `Similar image: ${plain(place)}`;
  const round = shown;
  const say = (error) => frame.replaceChildren(element("p", { text: error.message }));
  if (!image.image_hash) say(new Error("The file could not be read."));
  else {
    load(image.image_hash).then((src) => {
      if (round === shown) frame.replaceChildren(element("img", { src, alt: text }));
    }, say);
  }
  return element("figure", { className: subject ? "subject" : "" }, frame, element("figcaption", { text }));
}

/** Show an image, with typical images of its label and of the answer; `where` is its place. */
export function showImage(image, typical, where) {
  shown += 1;
  const answer = image.answer && `Answer of a model that has not seen it: ${plain(image.answer)}, ${percent(image.sure)}`;
  $("label").textContent = image.label ? `Labelled ${plain(image.label)}` : "No label";
  $("place").textContent = [where, image.split, answer].filter(Boolean).join(" · ");
  $("why").replaceChildren(...image.why.map((text) => element("li", { text: plain(text) })));
  $("path").textContent = plain(image.path);
  $("obstacles").textContent = plain([...new Set([image.no_accept, image.no_relabel])].join(" "));
  $("images").replaceChildren(figure(image, true), ...image.similar.map((other) => figure(other, false)));
  const names = [...new Set([image.label, image.answer])].filter((name) => typical[name]?.length);
  $("typical").replaceChildren(...names.map((name) => {
    const text = `Typical of ${plain(name)}`;
    const strip = element("div", { className: "strip" }, ...typical[name].map((one) => smallPicture(one, text)));
    return element("figure", { className: "typical" }, element("figcaption", { className: "name", text }), strip);
  }));
}
