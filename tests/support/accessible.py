"""What keeps people from reading or working a page: seen from inside of a browser, as it is shown at that moment.

A few rules of WCAG 2.2 (level AA) that can be reckoned: 1.4.3 contrast, 1.4.10 nothing wider than the window, 2.5.8
size of what is pressed, 4.1.2 a name for what is worked with.
"""

from __future__ import annotations

from playwright.sync_api import Page

LOOK = """
(within) => {
  const root = document.querySelector(within);
  const shown = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true })
    && !node.closest(".unseen, [inert]") && !(node.closest("dialog") && within === "body");
  const told = (node) => {
    const text = (node.textContent || "").trim().slice(0, 30);
    return `${node.tagName.toLowerCase()}#${node.id}.${node.className} ${text}`;
  };
  const colour = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return { channels: [r, g, b], a };
  };
  const light = ({ channels }) => {
    const [r, g, b] = channels.map((each) => (each /= 255) <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const found = colour(getComputedStyle(node).backgroundColor);
      if (found.a === 1) return found;
    }
    return { channels: [255, 255, 255] };
  };
  const faults = [];
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !shown(node) || node.closest("script, style, option")) continue;
    const [one, other] = [light(colour(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(2)}: ${told(node)}`);
  }
  for (const node of root.querySelectorAll("button, input, select, summary, [tabindex='0']")) {
    if (!shown(node)) continue;
    const label = node.getAttribute("aria-label") || [...node.labels || []].map((each) => each.textContent).join("")
      || (node.tagName === "INPUT" ? "" : node.textContent);
    if (!label.trim()) faults.push(`no name: ${told(node)}`);
    const box = node.getBoundingClientRect();
    if (box.left < -1 || box.right > innerWidth + 1) faults.push(`beyond the window: ${told(node)}`);
    const small = !node.matches(".cite, summary") && (box.width < 24 || box.height < 24);  // not in text
    if (small) faults.push(`small, ${box.width} by ${box.height}: ${told(node)}`);
  }
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) faults.push(`the page is ${wide} wide`);
  return faults;
}
"""


def faults(page: Page, within: str = "body") -> list[str]:
    """Return what is wrong with ``page``, each with the element that it is about; nothing: all is well."""
    found: list[str] = page.evaluate(LOOK, within)
    return found
