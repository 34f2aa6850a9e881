"use strict";
const report = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// Text goes into the page as text nodes alone: nothing of the data is ever read as HTML.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}
const element = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const shape = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const digits = (value, count = 3) => (value === null || value === undefined ? "–" : value.toFixed(count));
const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`);
const whole = (value) => value.toLocaleString("en-US");
const plural = (count, one, many) => `${whole(count)} ${count === 1 ? one : many}`;

// A table that scrolls sideways by itself where the window is narrow; the first cell of a row is its head.
function table(words, heads, rows) {
  const head = element("tr", {}, heads.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map(([first, ...rest]) =>
    element("tr", {}, element("th", { scope: "row" }, first), rest.map((cell) => element("td", {}, cell))));
  const made = element("table", {}, element("caption", { class: "unseen" }, words), element("thead", {}, head),
    element("tbody", {}, body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": words }, made);
}

// A bar of shares 0…1; styles are set through the object model, which the page's policy allows.
function track(parts) {
  return element("div", { class: "track", "aria-hidden": "true" }, parts.map(([kind, from, to]) => {
    const part = element("div", { class: kind });
    part.style.left = `${100 * from}%`;
    if (to !== undefined) part.style.width = `${100 * Math.max(to - from, 0)}%`;
    return part;
  }));
}
