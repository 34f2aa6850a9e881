// What the points can be colored by: key, words, the value from a row, the least end of the scale.
const MEASURES = [
  ["oks", "similarity lost (1 − OKS)", (row) => (row.OKS === null ? null : 1 - row.OKS), 0.3, percent],
  ["median", "median distance, share of the box diagonal", (row) => row["Median-share"], 0.05, percent],
  ["pck", "points off by more than a tenth of the diagonal", (row) => (row["PCK@0.1"] === null ? null : 1 - row["PCK@0.1"]), 0.3, percent],
  ["inverted", "points on their mirror point (inverted)", (row) => row.Inverted, 0.1, percent],
];
const RAMP = [[43, 131, 186], [120, 190, 180], [253, 190, 95], [230, 97, 50], [190, 15, 60]];

function colorOf(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1), low = Math.min(Math.floor(at), RAMP.length - 2);
  const mixed = RAMP[low].map((value, part) => Math.round(value + (RAMP[low + 1][part] - value) * (at - low)));
  return `rgb(${mixed.join(" ")})`;
}

function startKeypoints() {
  const { groups, paired, truths } = report.keypoints;
  const rows = groups.flatMap((group) => group.rows);
  const told = MEASURES.filter(([, , value]) => rows.some((row) => value(row) !== null));
  byId("keypoints-words").append(`Over the ${whole(paired)} of ${plural(truths, "object", "objects")} whose box was found ` +
    "(IoU .50). Distances are in pixels of the original images, PCK in shares of the box diagonal.");
  byId("measure").append(...told.map(([key, words]) => element("option", { value: key }, words)));
  byId("measure").addEventListener("change", () => colorPoints(told));
  groups.forEach((group, number) => byId("figures").append(figure(group, number, groups.length > 1)));
  colorPoints(told);
}

function figure(group, number, several) {
  const heads = ["Keypoint", "Labeled", "OKS", "PCK@.05", "PCK@.1", "PCK@.2", "Median px", "Visibility", "Inverted"];
  const made = table(`Keypoints${several ? ` of ${group.title}` : ""}`, heads, group.rows.map((row, index) => [
    element("span", {}, element("i", { class: "swatch", "data-point": `${number}-${index}` }), group.names[index]),
    whole(row.Labeled), digits(row.OKS), ...["0.05", "0.1", "0.2"].map((limit) => digits(row[`PCK@${limit}`])),
    digits(row.Median, 1), digits(row.Visibility), digits(row.Inverted)]));
  [...made.querySelectorAll("tbody tr")].forEach((row, index) => lightUp(row, number, index));
  return element("div", {}, several ? element("h3", {}, group.title) : null, element("div", { class: "figure" },
    group.places && group.places.some((place) => place) ? drawn(group, number) : element("div"), made));
}

function drawn(group, number) {
  const known = group.places.filter((place) => place);
  const xs = known.map((place) => place[0]), ys = known.map((place) => place[1]);
  const side = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys), 1);
  const radius = side * Math.min(0.027, 0.13 / Math.sqrt(group.places.length)), edge = 2.2 * radius;
  const box = [Math.min(...xs) - edge, Math.min(...ys) - edge, Math.max(...xs) - Math.min(...xs) + 2 * edge,
    Math.max(...ys) - Math.min(...ys) + 2 * edge];
  const limbs = group.edges.filter(([a, b]) => group.places[a] && group.places[b]).map(([a, b]) => {
    const [[x1, y1], [x2, y2]] = [group.places[a], group.places[b]];
    return shape("line", { class: "limb", x1, y1, x2, y2, "stroke-width": radius * 0.7 });
  });
  const points = group.places.map((place, index) => {
    if (!place) return null;
    const point = shape("circle", { cx: place[0], cy: place[1], r: radius, "data-point": `${number}-${index}`,
      "data-radius": radius, "stroke-width": radius * 0.25 }, shape("title", {}, group.names[index]));
    lightUp(point, number, index);
    return point;
  });
  const words = group.example ? "An object of the data" : "A person, facing us";
  return element("div", {}, shape("svg", { viewBox: box.map((value) => value.toFixed(2)).join(" "), role: "img",
    "aria-label": `${words}, its keypoints colored by error; the table beside it tells the numbers` }, limbs, points),
  element("p", { class: "small" }, `${words}. Larger and redder points are worse.`));
}

function lightUp(node, number, index) {
  const set = (on) => {
    for (const point of document.querySelectorAll(`[data-point="${number}-${index}"]`)) {
      point.classList.toggle("lit", on);
      const row = point.closest("tr");
      if (row) row.classList.toggle("lit", on);
    }
  };
  node.addEventListener("mouseenter", () => set(true));
  node.addEventListener("mouseleave", () => set(false));
}

function colorPoints(told) {
  const [, , value, least, words] = told.find(([key]) => key === byId("measure").value) || MEASURES[0];
  const rows = report.keypoints.groups.flatMap((group) => group.rows);
  const most = Math.max(least, ...rows.map((row) => value(row) || 0));
  report.keypoints.groups.forEach((group, number) => group.rows.forEach((row, index) => {
    const error = value(row);
    for (const point of document.querySelectorAll(`[data-point="${number}-${index}"]`)) {
      const color = error === null ? "" : colorOf(error / most);
      point.classList.toggle("nothing", error === null);
      if (point.tagName === "circle") {
        point.style.fill = color;
        point.setAttribute("r", Number(point.dataset.radius) * (1 + 0.6 * (error || 0) / most));
        point.querySelector("title").textContent = `${group.names[index]}: ${words(error)}`;
      } else point.style.background = color;
    }
  }));
  const bar = element("i");
  bar.style.background = `linear-gradient(90deg, ${RAMP.map((_, step) => colorOf(step / (RAMP.length - 1))).join(", ")})`;
  byId("ramp").replaceChildren("0", bar, words(most));
}
