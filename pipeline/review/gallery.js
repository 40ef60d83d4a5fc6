// A gallery of images, of which one, many or a range is chosen by mouse, finger or keys.

import { element } from "./elements.js";

export class Gallery {
  /**
   * @param {Element} place is the list box.
   * @param {object} on has `draw`, which returns the content of an image's tile, `opened`, which is
   *     called with the number of an image, and `changed`, after another choice.
   */
  constructor(place, on) {
    Object.assign(this, { place, on, items: [], chosen: new Set(), at: 0, anchor: 0, range: false });
    place.addEventListener("click", (event) => {
      const number = this.#number(event.target);
      if (number >= 0) this.#choose(number, event.shiftKey || this.range);
    });
    place.addEventListener("dblclick", (event) => {
      const number = this.#number(event.target);
      if (number >= 0) on.opened(number);
    });
    place.addEventListener("keydown", (event) => this.#press(event));
  }

  /** Show some images, none of which is chosen. */
  show(items) {
    this.items = items;
    this.chosen.clear();
    [this.at, this.anchor] = [0, 0];
    this.place.replaceChildren(...items.map((item, number) => {
      const tile = element("li", { role: "option", tabIndex: number ? -1 : 0, ariaSelected: "false" });
      tile.append(...this.on.draw(item));
      return tile;
    }));
  }

  /** Draw the tiles again of which an item is of interest, as after a decision. */
  redraw(isChanged) {
    for (const [number, item] of this.items.entries()) {
      if (isChanged(item)) this.place.children[number].replaceChildren(...this.on.draw(item));
    }
  }

  get chosenItems() {
    return this.items.filter((_, number) => this.chosen.has(number));
  }

  chooseAll() {
    this.chosen = new Set(this.items.keys());
    this.#told();
  }

  chooseNone() {
    this.chosen.clear();
    this.#told();
  }

  /** Move the focus to an image. */
  focus(number) {
    if (!this.items.length) return;
    this.place.children[this.at].tabIndex = -1;
    this.at = Math.min(Math.max(number, 0), this.items.length - 1);
    const tile = this.place.children[this.at];
    tile.tabIndex = 0;
    tile.focus();
  }

  #number(target) {
    return [...this.place.children].indexOf(target.closest("[role=option]"));
  }

  /** Choose an image or no longer; with `range`, all images from the one chosen before. */
  #choose(number, range) {
    if (range) {
      const [first, last] = [Math.min(this.anchor, number), Math.max(this.anchor, number)];
      for (let each = first; each <= last; each += 1) this.chosen.add(each);
    } else {
      if (!this.chosen.delete(number)) this.chosen.add(number);
      this.anchor = number;
    }
    this.range = false;
    this.focus(number);
    this.#told();
  }

  #told() {
    for (const [number, tile] of [...this.place.children].entries()) tile.ariaSelected = String(this.chosen.has(number));
    this.on.changed();
  }

  #press(event) {
    const columns = getComputedStyle(this.place).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -this.at, End: this.items.length };
    if (event.key === " ") this.#choose(this.at, event.shiftKey);
    else if (event.key === "Enter") this.on.opened(this.at);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) this.chooseAll();
    else if (event.key in steps) {
      if (event.shiftKey && !this.chosen.size) this.#choose(this.at, false);
      this.focus(this.at + steps[event.key]);
      if (event.shiftKey) this.#choose(this.at, true);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
