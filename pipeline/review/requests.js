// Requests of the page of a review, and its pictures.

import { $, element } from "./elements.js";

const GONE = "The review cannot be reached. Check that imgpipe review is still running, then try again.";
const KEPT = { "": 24, "?small": 600 }; // large and small pictures that are kept in memory
export const token = decodeURIComponent(location.hash.slice(1));

/** Characters of names that cannot be shown or that change the direction of writing. */
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]/gu;
export const plain = (text) => text.replace(HIDDEN, "\ufffd");

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options, headers: { "X-Imgpipe-Token": token } });
  } catch {
    throw new Error(GONE);
  }
  if (!answer.ok) {
    const content = await answer.json().catch(() => ({}));
    throw new Error(content.error ?? `The review answered with status ${answer.status}.`);
  }
  return answer;
}

export const read = async (path, content) =>
  (await ask(path, content && { method: "POST", body: JSON.stringify(content) })).json();

export function complain(error) {
  $("alert").textContent = error.message;
  $("alert").hidden = false;
}

const kept = { "": new Map(), "?small": new Map() }; // by size: hash → promise of an address

/** The address of a picture in this browser. One that could not be loaded is asked for again. */
export function load(hash, size = "") {
  const addresses = kept[size];
  if (!addresses.has(hash)) {
    const address = ask(`review/pictures/${hash}${size}`).then((answer) => answer.blob()).then(URL.createObjectURL);
    addresses.set(hash, address);
    address.catch(() => addresses.delete(hash));
    if (addresses.size > KEPT[size]) {
      const [oldest, made] = addresses.entries().next().value;
      addresses.delete(oldest);
      made.then(URL.revokeObjectURL, () => {});
    }
  }
  return addresses.get(hash);
}

/** Pictures are asked for when they are about to come into view. */
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    load(target.dataset.hash, "?small").then((address) => { target.src = address; }, ({ message }) => { target.replaceWith(element("span", { text: message, className: "muted" })); });
  }
}, { rootMargin: "400px" });

/** A picture of at most 320 pixels; a file that could not be read has none. */
export function smallPicture(image, words) {
  const shown = element("img", { alt: words, title: plain(image.path) });
  if (!image.image_hash) return element("span", { text: "no picture", className: "muted" });
  shown.dataset.hash = image.image_hash;
  seen.observe(shown);
  return shown;
}
