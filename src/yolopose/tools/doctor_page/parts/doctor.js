const SEVERITIES = ["error", "warning", "notice"];
const MAX_TEXTS = 8;  // examples that are listed before "show all"
const hidden = new Set();

function poseNode(pose, layer, unit, keypoint) {
  const [x1, y1, x2, y2] = pose.box;
  const radius = Math.min(Math.max(0.015 * Math.max(x2 - x1, y2 - y1), 1.5 * unit), 3 * unit);
  const isDrawn = pose.points.map(([x, y, v]) => (layer === "gt" ? v > 0 : v > 0.3) && (x !== 0 || y !== 0));
  const path = report.edges.filter(([a, b]) => isDrawn[a] && isDrawn[b])
    .map(([a, b]) => `M${pose.points[a][0]} ${pose.points[a][1]}L${pose.points[b][0]} ${pose.points[b][1]}`).join("");
  const limbs = path ? [svg("path", { class: "halo", d: path }), svg("path", { class: "limbs", d: path })] : [];
  const circles = pose.points.map(([cx, cy, v], index) => {
    if (!isDrawn[index]) return null;
    const node = svg("circle", { class: layer === "gt" && v === 1 ? "occluded" : null, cx, cy, r: radius },
      svg("title", {}, report.names[index] || `keypoint ${index}`));
    return node;
  });
  const point = keypoint === null || keypoint === undefined ? undefined : pose.points[keypoint];
  const ring = pose.highlighted && point ? svg("circle", { class: "wrong", cx: point[0], cy: point[1], r: 5 * unit }) : null;
  return svg("g", { class: `instance${pose.highlighted || layer !== "gt" ? " highlighted" : ""}` },
    svg("rect", { class: "box", x: x1, y: y1, width: x2 - x1, height: y2 - y1 }), limbs, circles, ring);
}

// A crop with the labels, and the prediction, as SVG above it.
function frameNode(card) {
  const unit = Math.max(card.width, card.height) / 260;
  const frame = html("div", { class: "frame" },
    html("img", { src: `data:image/jpeg;base64,${card.jpeg}`, alt: "" }),
    svg("svg", { class: "poses", "aria-hidden": "true", viewBox: `${card.x} ${card.y} ${card.width} ${card.height}` },
      svg("g", { class: "gt-layer" }, card.instances.map((pose) => poseNode(pose, "gt", unit, card.keypoint))),
      card.detection ? svg("g", { class: "predictions-layer" }, poseNode(card.detection, "predictions", unit)) : null));
  frame.style.aspectRatio = `${card.width} / ${card.height}`;
  return frame;
}

function imagesNode(card) {
  if (!card.other) return frameNode(card);
  const second = html("div", { class: "frame" }, html("img", { src: `data:image/jpeg;base64,${card.other.jpeg}`, alt: "" }));
  return html("div", { class: "two" }, frameNode(card), second);
}

function openViewer(card) {
  const images = imagesNode(card);
  for (const frame of images.classList.contains("two") ? images.children : [images]) {
    frame.style.width = `min(100%, ${(70 * card.width / card.height).toFixed(1)}vh)`;
    frame.style.aspectRatio = `${card.width} / ${card.height}`;
  }
  byId("viewer-name").textContent = card.name;
  byId("viewer-image").replaceChildren(images);
  byId("viewer-text").textContent = card.text + (card.row ? ` (row ${card.row})` : "");
  byId("viewer").showModal();
}

function cardNode(card) {
  const button = html("button", { type: "button", "aria-label": `Enlarge ${card.name}: ${card.text}` }, imagesNode(card));
  button.addEventListener("click", () => openViewer(card));
  return html("li", { class: "card" }, button,
    html("div", { class: "under" }, html("span", { class: "name", title: card.name }, html("bdi", {}, card.name))),
    html("span", { class: "summary" }, card.text + (card.row ? ` (row ${card.row})` : "")));
}

function exampleItems(examples) {
  return examples.map(([file, row, text]) => html("li", {},
    file ? html("span", { class: "place" }, `${file}${row ? `, row ${row}` : ""}: `) : null, text));
}

function sigmaTable(sigmas) {
  if (!sigmas || !sigmas.suggested) return null;
  const effect = Object.keys(sigmas.current_map).map((error) => [
    `off by ${error} of its size`, formatNumber(sigmas.current_map[error], 2), formatNumber(sigmas.suggested_map[error], 2)]);
  const rows = report.names.map((name, index) =>
    [name, formatNumber(sigmas.current[index]), formatNumber(sigmas.suggested[index])]);
  return html("details", {}, html("summary", {}, "σ of each keypoint, and what it does to mAP"),
    makeTable("Pose mAP50-95 if every keypoint is off", ["Pose mAP50-95 if every keypoint is", "now", "suggested"], effect),
    makeTable("Sigma of each keypoint", ["Keypoint", "σ now", "σ suggested"], rows));
}

function findingNode(finding, number) {
  const items = exampleItems(finding.examples);
  const first = html("ul", { class: "list" }, items.slice(0, MAX_TEXTS));
  const rest = items.slice(MAX_TEXTS);
  const unlisted = finding.count - finding.examples.length;
  const more = rest.length ? html("details", {}, html("summary", {}, `${formatCount(rest.length)} more examples`),
    html("ul", { class: "list" }, rest)) : null;
  return html("article", { class: "finding", id: `finding-${number}`, "data-severity": finding.severity },
    html("h3", {}, html("span", { class: `badge severity ${finding.severity}` }, finding.severity), finding.title,
      finding.fixable ? html("span", { class: "badge fixable" }, "fix=") : null),
    html("span", { class: "id" }, finding.check),
    html("dl", {}, html("dt", {}, "Why"), html("dd", {}, finding.why), html("dt", {}, "Fix"), html("dd", {}, finding.how)),
    finding.cards.length ? html("ul", { class: "cards", "aria-label": `Images: ${finding.title}` },
      finding.cards.map(cardNode)) : null,
    finding.cards.length < items.length ? [first, more] : null,
    finding.examples.length && unlisted > 0
      ? html("p", { class: "small" }, `${formatCount(unlisted)} more are not listed.`) : null,
    sigmaTable(finding.sigmas));
}

function showOverview() {
  byId("title").textContent = report.title;
  document.title = `${report.title} – data set report`;
  const numFixable = report.findings.filter((finding) => finding.fixable).length;
  byId("summary").textContent = report.findings.length
    ? `${report.summary}.${numFixable ? ` fix=FOLDER writes a copy that repairs ${numFixable} of them.` : ""}`
    : "No problems.";
  const rows = report.findings.map((finding, number) => [
    html("span", { class: `badge severity ${finding.severity}` }, finding.severity), formatCount(finding.count),
    html("a", { href: `#finding-${number}` }, finding.title)]);
  if (rows.length) {
    const table = makeTable("Findings", ["Severity", "Count", "Problem"], rows);
    table.classList.add("overview");
    byId("overview-table").append(table);
  }
}

function applyFilter() {
  for (const node of byId("list").children) node.hidden = hidden.has(node.dataset.severity);
}

function showFindings() {
  byId("list").append(...report.findings.map(findingNode));
  if (!report.findings.length) byId("list").append(html("p", {}, "No problems."));
  for (const severity of SEVERITIES.filter((name) => report.counts[name])) {
    const box = html("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(severity); else hidden.add(severity);
      applyFilter();
    });
    byId("filters").append(html("label", {}, box, ` ${plural(report.counts[severity], severity, `${severity}s`)}`));
  }
}

function showAdvice() {
  if (!report.advice.length) {
    byId("advice-table").append(html("p", {}, "No labeled training images."));
    return;
  }
  const table = makeTable("Suggested options", ["Option", "Value", "Reason"], report.advice);
  table.classList.add("overview");
  byId("advice-table").append(table);
}

byId("facts").append(...report.facts.flatMap(([name, value]) => [html("dt", {}, name), html("dd", {}, value)]));
byId("viewer-close").addEventListener("click", () => byId("viewer").close());
startTheme();
showOverview();
showFindings();
showAdvice();
