// Many images at once: a table that can be sorted, filtered and downloaded as CSV.

import { element, percent } from "./elements.js";
import { orientation } from "./encoding.js";
import { Gone, classify } from "./server.js";

const AT_ONCE = 4;
const LABELS_COUNTED = 12; // of more labels, only the most frequent are counted in the caption
const ROWS_SHOWN = 200; // a table of thousands of images would make the page slow
const ATTEMPTS = 4;
const WAIT_MS = 500;
const REFRESH_MS = 250;
const BUSY = [429, 503];
const UNSURE = "unsure";
const UNLIKE = "unlike all that the model has learned";

const pathOf = (file) => file.webkitRelativePath || file.name;

/** A cell of a CSV file that no spreadsheet runs as a formula, and no terminal as a command. */
function cell(value) {
  const text = String(value).replace(/\p{Cc}/gu, "\ufffd"); // such as ESC and BEL in the name of a file
  const safe = /^[=+\-@]/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

export function csv(rows) {
  const lines = rows.map(({ path, label, probability, version, note, error }) =>
    [path, label ?? "", probability?.toFixed(6) ?? "", version ?? "", note ?? "", error ?? ""].map(cell).join(","),
  );
  return ["file,label,probability,version,note,error", ...lines, ""].join("\r\n");
}

async function patiently(target, file, signal) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await classify(target, file, signal);
    } catch (error) {
      if (!BUSY.includes(error.status) || attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS * 2 ** attempt));
    }
  }
}

export class Folder {
  /** @param {(file: File) => void} opened is called with the image of a row that was opened. */
  constructor(places, opened) {
    Object.assign(this, places, { opened, entries: [], asked: 0 });
    this.order = { key: "path", direction: 1 };
    for (const button of this.sorts) button.addEventListener("click", () => this.#sortBy(button.dataset.sort));
    this.#markSorted();
    this.filter.addEventListener("submit", (event) => event.preventDefault());
    this.filter.addEventListener("input", () => this.#show());
    this.stop.addEventListener("click", () => this.control.abort());
    this.download.addEventListener("click", () => this.#save());
  }

  /**
   * Classify all files. A file that is refused gets its reason in the table.
   *
   * @param {() => Promise<object>} newest returns the target that takes the place of one that is gone.
   */
  async classify(target, files, newest) {
    this.control?.abort();
    const control = (this.control = new AbortController());
    for (const { url } of this.entries) if (url) URL.revokeObjectURL(url);
    this.entries = [...files].sort((a, b) => pathOf(a).localeCompare(pathOf(b))).map((file) => ({ file, path: pathOf(file) }));
    this.section.hidden = false;
    this.stop.hidden = false;
    this.filterLabel.value = "";
    const waiting = [...this.entries];
    const timer = setInterval(() => this.#show(), REFRESH_MS);
    let current = Promise.resolve(target);
    const ask = async (file) => {
      const asked = current;
      try {
        return await patiently(await asked, file, control.signal);
      } catch (error) {
        if (error.status !== 404) throw error;
        if (current === asked) {
          current = newest(); // once for all requests that were in flight
          // A look-up that fails is made again for the next file.
          current.catch(() => (current = asked));
        }
        return patiently(await current, file, control.signal);
      }
    };
    const work = async () => {
      for (let entry; (entry = waiting.shift()) && !control.signal.aborted; ) {
        try {
          const { classes: [{ name, probability }], version, unlike } = await ask(entry.file);
          Object.assign(entry, { label: name, version, probability, unlike });
        } catch (error) {
          if (control.signal.aborted) return;
          entry.error = error.message;
          if (error instanceof Gone) control.abort();
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    clearInterval(timer);
    if (this.control !== control) return;
    this.stop.hidden = true;
    this.#show();
  }

  /** Mark the answers as unsure whose probability is below the one that is asked for. */
  ask(probability) {
    this.asked = probability;
    this.#show();
  }

  #sortBy(key) {
    this.order = { key, direction: this.order.key === key ? -this.order.direction : 1 };
    this.#markSorted();
    this.#show();
  }

  #markSorted() {
    for (const button of this.sorts) {
      const sorted = button.dataset.sort === this.order.key;
      const direction = this.order.direction > 0 ? "ascending" : "descending";
      button.closest("th").ariaSort = sorted ? direction : "none";
    }
  }

  /** The entries that the filter lets through, sorted; those without an answer are the last. */
  #matching() {
    const [label, text] = [this.filterLabel.value, this.filterName.value.toLowerCase()];
    const { key, direction } = this.order;
    const compare = (a, b) => {
      if (a[key] === undefined || b[key] === undefined) return (a[key] === undefined) - (b[key] === undefined);
      return direction * (key === "probability" ? a[key] - b[key] : a[key].localeCompare(b[key]));
    };
    return this.entries
      .filter((entry) => (!label || entry.label === label) && entry.path.toLowerCase().includes(text))
      .sort(compare);
  }

  /** How many images have each label, the most frequent first. */
  #counts(entries) {
    const counts = new Map();
    for (const { label } of entries) if (label !== undefined) counts.set(label, (counts.get(label) ?? 0) + 1);
    const sorted = [...counts].sort(([, a], [, b]) => b - a);
    const parts = sorted.slice(0, LABELS_COUNTED).map(([label, count]) => `${label} ${count}`);
    if (sorted.length > LABELS_COUNTED) parts.push(`${sorted.length - LABELS_COUNTED} other labels`);
    return parts.length ? `: ${parts.join(", ")}` : "";
  }

  #show() {
    for (const entry of this.entries) {
      const notes = [entry.probability < this.asked ? UNSURE : "", entry.unlike ? UNLIKE : ""];
      entry.note = notes.filter(Boolean).join("; ");
    }
    const finished = this.entries.filter((entry) => entry.label !== undefined || entry.error);
    const refused = finished.filter((entry) => entry.error).length;
    this.progress.max = this.entries.length || 1;
    this.progress.value = finished.length;
    this.done.textContent =
      `${finished.length} of ${this.entries.length} images` + (refused ? `, ${refused} refused` : "");
    this.#offerLabels([...new Set(finished.map((entry) => entry.label).filter((label) => label !== undefined))].sort());
    const found = this.#matching();
    const labelled = found.filter((entry) => entry.label !== undefined).length;
    const some = labelled && labelled < found.length ? `${labelled} of ` : "";
    const images = `${some}${found.length} ${found.length === 1 ? "image" : "images"}${this.#counts(found)}`;
    this.shown.textContent =
      found.length > ROWS_SHOWN ? `${images}. The first ${ROWS_SHOWN} are shown; the CSV file has them all.` : images;
    this.#draw(found.slice(0, ROWS_SHOWN));
  }

  /** Rows that are shown already stay, so that the focus and the thumbnails do too. */
  #draw(entries) {
    const rows = entries.map((entry) => {
      const shown = entry.error ?? entry.label;
      const state = `${shown}: ${entry.note}`;
      if (!entry.row || entry.state !== state) {
        entry.row ??= this.#row(entry);
        entry.state = state;
        const [, label, number] = entry.row.cells;
        entry.row.classList.toggle("refused", Boolean(entry.error));
        label.textContent = shown ?? "…";
        if (entry.note) label.append(element("span", { text: entry.note, className: "note" }));
        number.textContent = entry.probability === undefined ? "" : percent(entry.probability);
      }
      return entry.row;
    });
    const same = rows.length === this.rows.children.length && rows.every((row, index) => row === this.rows.children[index]);
    if (!same) this.rows.replaceChildren(...rows);
  }

  #row(entry) {
    entry.url = URL.createObjectURL(entry.file);
    const image = element("img", { alt: "", loading: "lazy", src: entry.url });
    image.style.imageOrientation = orientation(entry.file);
    image.addEventListener("error", () => (image.hidden = true));
    const open = element("button", { type: "button", ariaLabel: `Open ${entry.path}` }, image);
    const row = element(
      "tr", {},
      element("td", {}, open),
      element("td", { className: "name", dir: "auto" }),
      element("td", { className: "number" }),
      element("td", { text: entry.path, className: "name", dir: "auto" }),
    );
    row.addEventListener("click", () => {
      this.current = open;
      this.opened(entry.file);
    });
    return row;
  }

  /** Go back to the row that was opened last. */
  back() {
    this.current.focus({ preventScroll: true });
    this.current.scrollIntoView({ block: "center" });
  }

  #offerLabels(labels) {
    const select = this.filterLabel;
    const offered = [...select.options].slice(1).map((option) => option.value);
    if (labels.length === offered.length && labels.every((label, index) => label === offered[index])) return;
    const chosen = select.value;
    select.replaceChildren(new Option("all", ""), ...labels.map((label) => new Option(label, label)));
    select.value = labels.includes(chosen) ? chosen : "";
  }

  #save() {
    // The mark at the start tells spreadsheets that the file is UTF-8.
    const url = URL.createObjectURL(new Blob(["\ufeff", csv(this.#matching())], { type: "text/csv" }));
    element("a", { href: url, download: "labels.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }
}
