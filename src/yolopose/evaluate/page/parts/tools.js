"use strict";
const report = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// Strings are inserted as text nodes only: data is never parsed as HTML.
function fillNode(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}
const html = (tag, attributes = {}, ...children) => fillNode(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fillNode(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const isMissing = (value) => value === null || value === undefined;
const formatNumber = (value, digits = 3) => (isMissing(value) ? "–" : value.toFixed(digits));
const formatPercent = (value) => (isMissing(value) ? "–" : `${(100 * value).toFixed(1)} %`);
const formatSigned = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
const formatCount = (value) => value.toLocaleString("en-US");
const plural = (count, singular, pluralForm) => `${formatCount(count)} ${count === 1 ? singular : pluralForm}`;

// A table in a box that scrolls sideways in narrow windows; the first cell of a row is its header.
function makeTable(caption, header, rows) {
  const head = html("tr", {}, header.map((text) => html("th", { scope: "col" }, text)));
  const body = rows.map(([first, ...rest]) =>
    html("tr", {}, html("th", { scope: "row" }, first), rest.map((cell) => html("td", {}, cell))));
  const table = html("table", {}, html("caption", { class: "visually-hidden" }, caption), html("thead", {}, head),
    html("tbody", {}, body));
  return html("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table);
}

// A horizontal bar of shares 0…1. Styles are set by script, since the policy of the page forbids style attributes.
function makeBar(segments) {
  return html("div", { class: "track", "aria-hidden": "true" }, segments.map(([className, from, to]) => {
    const segment = html("div", { class: className });
    segment.style.left = `${100 * from}%`;
    if (to !== undefined) segment.style.width = `${100 * Math.max(to - from, 0)}%`;
    return segment;
  }));
}

function startTheme() {
  let stored = "";
  try { stored = localStorage.getItem("yolopose-theme") || ""; } catch { /* no storage for pages from disk */ }
  const set = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  for (const choice of document.querySelectorAll("input[name=theme]")) {
    choice.checked = choice.value === stored;
    choice.addEventListener("change", () => {
      set(choice.value);
      try { localStorage.setItem("yolopose-theme", choice.value); } catch { /* no storage */ }
    });
  }
  set(stored);
}
