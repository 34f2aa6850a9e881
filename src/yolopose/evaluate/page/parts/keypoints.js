// Measures that keypoints can be colored by: key, label, value of a row, smallest end of the color scale, format.
const MEASURES = [
  ["oks", "1 − OKS", (row) => (row.OKS === null ? null : 1 - row.OKS), 0.3, formatPercent],
  ["median", "median distance, share of the box diagonal", (row) => row["Median-share"], 0.05, formatPercent],
  ["pck", "1 − PCK@0.1", (row) => (row["PCK@0.1"] === null ? null : 1 - row["PCK@0.1"]), 0.3, formatPercent],
  ["inverted", "share of inversions", (row) => row.Inverted, 0.1, formatPercent],
];
const COLOR_SCALE = [[43, 131, 186], [120, 190, 180], [253, 190, 95], [230, 97, 50], [190, 15, 60]];

function scaleColor(share) {
  const position = Math.min(Math.max(share, 0), 1) * (COLOR_SCALE.length - 1);
  const low = Math.min(Math.floor(position), COLOR_SCALE.length - 2);
  const mixed = COLOR_SCALE[low].map((value, channel) =>
    Math.round(value + (COLOR_SCALE[low + 1][channel] - value) * (position - low)));
  return `rgb(${mixed.join(" ")})`;
}

function startKeypoints() {
  const { groups, num_pairs: numPairs, num_gt: numGt } = report.keypoints;
  const rows = groups.flatMap((group) => group.rows);
  const measures = MEASURES.filter(([, , value]) => rows.some((row) => value(row) !== null));
  byId("keypoints-text").append(`Over the ${formatCount(numPairs)} of ${plural(numGt, "instance", "instances")} ` +
    "whose box was detected (IoU .50). Distances are in pixels of the original images, PCK limits in shares of the " +
    "box diagonal.");
  byId("measure").append(...measures.map(([key, label]) => html("option", { value: key }, label)));
  byId("measure").addEventListener("change", () => colorKeypoints(measures));
  groups.forEach((group, number) => byId("figures").append(makeFigure(group, number, groups.length > 1)));
  colorKeypoints(measures);
}

function makeFigure(group, number, hasTitle) {
  const header = ["Keypoint", "Labeled", "OKS", "PCK@.05", "PCK@.1", "PCK@.2", "Mean px", "Median px", "Visibility", "Inverted"];
  const table = makeTable(`Keypoints${hasTitle ? ` of ${group.title}` : ""}`, header, group.rows.map((row, index) => [
    html("span", {}, html("i", { class: "swatch", "data-point": `${number}-${index}` }), group.names[index]),
    formatCount(row.Labeled), formatNumber(row.OKS),
    ...["0.05", "0.1", "0.2"].map((limit) => formatNumber(row[`PCK@${limit}`])),
    formatNumber(row.Mean, 1), formatNumber(row.Median, 1), formatNumber(row.Visibility), formatNumber(row.Inverted)]));
  [...table.querySelectorAll("tbody tr")].forEach((row, index) => highlightOnHover(row, number, index));
  const hasPositions = group.positions && group.positions.some((position) => position);
  return html("div", {}, hasTitle ? html("h3", {}, group.title) : null, html("div", { class: "figure" },
    hasPositions ? drawSkeleton(group, number) : html("div"), table));
}

function drawSkeleton(group, number) {
  const known = group.positions.filter((position) => position);
  const xs = known.map((position) => position[0]), ys = known.map((position) => position[1]);
  const left = Math.min(...xs), top = Math.min(...ys);
  const width = Math.max(...xs) - left, height = Math.max(...ys) - top, side = Math.max(width, height, 1);
  const radius = side * Math.min(0.027, 0.13 / Math.sqrt(group.positions.length)), margin = 2.2 * radius;
  const viewBox = [left - margin, top - margin, width + 2 * margin, height + 2 * margin];
  const limbs = group.edges.filter(([a, b]) => group.positions[a] && group.positions[b]).map(([a, b]) => {
    const [[x1, y1], [x2, y2]] = [group.positions[a], group.positions[b]];
    return svg("line", { class: "limb", x1, y1, x2, y2, "stroke-width": radius * 0.7 });
  });
  const points = group.positions.map((position, index) => {
    if (!position) return null;
    const point = svg("circle", { cx: position[0], cy: position[1], r: radius, "data-point": `${number}-${index}`,
      "data-radius": radius, "stroke-width": radius * 0.25 }, svg("title", {}, group.names[index]));
    highlightOnHover(point, number, index);
    return point;
  });
  const caption = group.is_example ? "An instance of the data set" : "A person, front view";
  return html("div", {}, svg("svg", { viewBox: viewBox.map((value) => value.toFixed(2)).join(" "), role: "img",
    "aria-label": `${caption}, keypoints colored by error; the table beside it lists the values` }, limbs, points),
  html("p", { class: "small" }, `${caption}. Larger and redder keypoints are worse.`));
}

function highlightOnHover(node, number, index) {
  const set = (on) => {
    for (const point of document.querySelectorAll(`[data-point="${number}-${index}"]`)) {
      point.classList.toggle("highlighted", on);
      const row = point.closest("tr");
      if (row) row.classList.toggle("highlighted", on);
    }
  };
  node.addEventListener("mouseenter", () => set(true));
  node.addEventListener("mouseleave", () => set(false));
}

function colorKeypoints(measures) {
  const [, , value, minEnd, format] = measures.find(([key]) => key === byId("measure").value) || MEASURES[0];
  const rows = report.keypoints.groups.flatMap((group) => group.rows);
  const end = Math.max(minEnd, ...rows.map((row) => value(row) || 0));
  report.keypoints.groups.forEach((group, number) => group.rows.forEach((row, index) => {
    const error = value(row);
    for (const point of document.querySelectorAll(`[data-point="${number}-${index}"]`)) {
      const color = error === null ? "" : scaleColor(error / end);
      point.classList.toggle("no-data", error === null);
      if (point.tagName === "circle") {
        point.style.fill = color;
        point.setAttribute("r", Number(point.dataset.radius) * (1 + 0.6 * (error || 0) / end));
        point.querySelector("title").textContent = `${group.names[index]}: ${format(error)}`;
      } else point.style.background = color;
    }
  }));
  const bar = html("i");
  const stops = COLOR_SCALE.map((_, step) => scaleColor(step / (COLOR_SCALE.length - 1)));
  bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  byId("color-scale").replaceChildren("0", bar, format(end));
}
