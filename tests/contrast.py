"""Measures the contrast of the text of a page, as WCAG 2.2 defines it."""

from __future__ import annotations

from typing import Any

from tests.browser import Page

#: Least contrast of text by level AA (WCAG 2.2, 1.4.3), for texts of any size.
LEAST = 4.5
_SCRIPT = """
(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((one) => one / 255)
      .map((one) => (one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const [r, g, b, alpha = 1] = parts(getComputedStyle(one).backgroundColor);
      if (alpha === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const owners = [...document.body.querySelectorAll("*")].filter((node) => node.checkVisibility()
    && !node.closest(":disabled, script, noscript")
    && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
  return owners.map((node) => {
    const lights = [light(parts(getComputedStyle(node).color).slice(0, 3)), light(behind(node))];
    const [low, high] = lights.sort((a, b) => a - b);
    return [node.innerText.trim(), (high + .05) / (low + .05)];
  });
})()
"""


def weak_texts(page: Page) -> list[tuple[str, float]]:
    """Return the visible texts of a page that have less contrast than `LEAST`, with the contrast.

    Disabled buttons are left out, as in WCAG. Backgrounds are plain colours.
    """
    measured: list[Any] = page.run(_SCRIPT)
    assert measured, "the page shows no text"
    return [(text, contrast) for text, contrast in measured if contrast < LEAST]
