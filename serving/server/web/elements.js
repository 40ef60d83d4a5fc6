// Elements of pages, and texts that are safe to show.

export const $ = (id) => document.getElementById(id);

/** An element with text, which is never read as markup. */
export function element(tag, { text = "", className = "", ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), { className, ...properties });
  if (text !== "") made.textContent = text;
  made.append(...children);
  return made;
}

export const percent = (probability) =>
  probability > 0 && probability < 0.001 ? "< 0.1 %" : `${(probability * 100).toFixed(1)} %`;

export const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
