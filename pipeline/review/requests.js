// Requests of the page of a review, its images, and words that all its parts use.

const GONE = "The review cannot be reached. Check that imgpipe review is still running, then try again.";
const KEPT = 24; // large images that are kept in memory
export const $ = (id) => document.getElementById(id);
export const token = decodeURIComponent(location.hash.slice(1));

/** Characters of names that cannot be shown or that change the direction of writing. */
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]/gu;
export const plain = (text) => text.replace(HIDDEN, "\ufffd");
export const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

const images = new Map(); // hash → promise of an address
const small = new Map(); // the same for small images, of which all are kept

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

export const post = async (path, content) =>
  (await ask(path, { method: "POST", body: JSON.stringify(content) })).json();

export function complain(error) {
  $("alert").textContent = error.message;
  $("alert").hidden = false;
}

const address = (path) => ask(path).then((answer) => answer.blob()).then(URL.createObjectURL);

/** The address of an image in this browser. One that could not be loaded is asked for again. */
export function load(hash) {
  if (!images.has(hash)) {
    images.set(hash, address(`review/images/${hash}`));
    images.get(hash).catch(() => images.delete(hash));
    if (images.size > KEPT) {
      const [oldest, made] = images.entries().next().value;
      images.delete(oldest);
      made.then(URL.revokeObjectURL, () => {});
    }
  }
  return images.get(hash);
}

/** The address of an image of at most 320 pixels. */
export function loadSmall(hash) {
  if (!small.has(hash)) {
    small.set(hash, address(`review/images/${hash}/small`));
    small.get(hash).catch(() => small.delete(hash));
  }
  return small.get(hash);
}
