// The image that is shown: its region, chosen by dragging or by numbers, and the drawing on it.

import { encode, orientation } from "./encoding.js";
import { Refused } from "./server.js";

const WHOLE = { left: 0, top: 0, width: 1, height: 1 };
const SMALLEST = 0.01; // of the width or height; a shorter drag is a click
// The colours of Grad-CAM, from nothing to most, and their share over the grey image: those of
// models/network/activation_images.py.
const HEAT = [[25, 60, 200], [245, 220, 70], [225, 35, 20]];
const HEAT_SHARE = 0.5;

/** The colour of a value from 0 to 1. */
function heatColour(value) {
  const place = inside(value) * (HEAT.length - 1);
  const lower = Math.min(Math.floor(place), HEAT.length - 2);
  return HEAT[lower].map((low, channel) => low + (place - lower) * (HEAT[lower + 1][channel] - low));
}

const inside = (value) => Math.min(Math.max(value, 0), 1);

export class ShownImage {
  /** @param {(final: boolean) => void} changed is called when another region has been chosen. */
  constructor({ frame, image, heat, region, numbers }, changed) {
    Object.assign(this, { frame, image, heat, marker: region, numbers, changed });
    this.region = WHOLE;
    this.blob = null;
    frame.addEventListener("pointerdown", (event) => this.#drag(event));
    numbers.addEventListener("submit", (event) => event.preventDefault());
    numbers.addEventListener("input", () => this.#fromNumbers());
    new ResizeObserver(() => this.#place()).observe(image);
  }

  get isWhole() {
    return this.region === WHOLE;
  }

  /** Show a file. Resolves to whether this browser can draw it; the model may read more formats. */
  async show(blob, name) {
    this.blob = blob;
    this.bitmap = null;
    this.clearHeat();
    this.select(WHOLE);
    if (this.image.src) URL.revokeObjectURL(this.image.src);
    this.image.style.imageOrientation = orientation(blob);
    this.image.src = URL.createObjectURL(blob);
    this.image.alt = `The image ${name}`;
    try {
      await this.image.decode();
      const bitmap = await createImageBitmap(blob, { imageOrientation: orientation(blob) });
      if (this.blob !== blob) return false;
      this.bitmap = bitmap;
      this.frame.style.setProperty("--ratio", bitmap.width / bitmap.height);
      this.frame.style.setProperty("--width", bitmap.width);
    } catch {
      // The format is not one that this browser reads.
    }
    return Boolean(this.bitmap);
  }

  /** Show no image. */
  clear() {
    this.blob = null;
    this.bitmap = null;
    this.clearHeat();
    this.frame.hidden = true;
  }

  /** What to send: the file as it is, or the region encoded anew. */
  async encoded() {
    if (this.isWhole || !this.bitmap) return this.blob;
    const { width, height } = this.bitmap;
    const left = Math.floor(this.region.left * width);
    const top = Math.floor(this.region.top * height);
    const blob = await encode(this.bitmap, {
      left,
      top,
      width: Math.min(Math.max(Math.round(this.region.width * width), 1), width - left),
      height: Math.min(Math.max(Math.round(this.region.height * height), 1), height - top),
    });
    if (!blob) throw new Refused("This browser could not encode the region. Choose a smaller one.");
    return blob;
  }

  select(region) {
    this.region = region;
    for (const [name, value] of Object.entries(region)) this.numbers.elements[name].value = Math.round(value * 100);
    this.#place();
  }

  reset() {
    this.select(WHOLE);
    this.changed(true);
  }

  #fromNumbers() {
    const { left, top, width, height } = Object.fromEntries(
      ["left", "top", "width", "height"].map((name) => [name, inside(this.numbers.elements[name].value / 100)]),
    );
    const start = (value) => Math.min(value, 1 - SMALLEST); // or no pixel would be left behind it
    const region = {
      left: start(left),
      top: start(top),
      width: Math.max(Math.min(width, 1 - left), SMALLEST),
      height: Math.max(Math.min(height, 1 - top), SMALLEST),
    };
    this.region = Object.keys(WHOLE).every((name) => region[name] === WHOLE[name]) ? WHOLE : region;
    this.#place();
    this.changed(true);
  }

  #drag(event) {
    if (!this.bitmap || event.button !== 0) return;
    event.preventDefault();
    this.frame.setPointerCapture(event.pointerId);
    const box = this.image.getBoundingClientRect();
    const point = (e) => [inside((e.clientX - box.left) / box.width), inside((e.clientY - box.top) / box.height)];
    const [x, y] = point(event);
    const move = (e) => {
      const [u, v] = point(e);
      const region = { left: Math.min(x, u), top: Math.min(y, v), width: Math.abs(u - x), height: Math.abs(v - y) };
      if (region.width < SMALLEST || region.height < SMALLEST) return;
      this.select(region);
      this.changed(false);
    };
    const end = () => {
      this.frame.removeEventListener("pointermove", move);
      this.changed(true);
    };
    this.frame.addEventListener("pointermove", move);
    this.frame.addEventListener("lostpointercapture", end, { once: true });
  }

  #place() {
    this.marker.hidden = this.isWhole;
    const share = (value) => `${value * 100}%`;
    for (const element of [this.marker, this.heat]) {
      for (const [name, value] of Object.entries(this.region)) element.style[name] = share(value);
    }
  }

  /** Draw the rows of Grad-CAM over the region; the browser smooths between the cells. */
  drawHeat(rows) {
    const [height, width] = [rows.length, rows[0].length];
    [this.heat.width, this.heat.height] = [width, height];
    const pixels = new ImageData(width, height);
    rows.flat().forEach((value, index) => {
      pixels.data.set([...heatColour(value), HEAT_SHARE * 255], index * 4);
    });
    this.heat.getContext("2d").putImageData(pixels, 0, 0);
    this.heat.hidden = false;
    this.frame.classList.add("explained");
  }

  clearHeat() {
    this.heat.hidden = true;
    this.frame.classList.remove("explained");
  }
}
