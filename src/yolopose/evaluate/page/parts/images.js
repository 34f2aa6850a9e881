const LAYERS = ["gt", "predictions", "boxes"];
const MAX_LISTED = 100;  // rows of the list of all images that are shown at once
const ERROR_NAMES = { 2: "jitter", 3: "inversion", 4: "swap", 5: "miss" };  // `KeypointOutcome`
const LAST_GOOD_OUTCOME = 2;  // jitter and better get no red ring
const gallery = report.images;
let shownCards = [];  // indices of cards, in order
let openPosition = -1;  // of the viewer, in shownCards

// An image with its poses as SVG layers above it, which can be hidden separately.
function makeFrame(card) {
  const frame = html("div", { class: "frame" });
  const unit = Math.max(card.width, card.height) / 320;
  if (card.jpeg !== null) frame.append(html("img", { src: `data:image/jpeg;base64,${card.jpeg}`, alt: "" }));
  const layer = (name, instances) =>
    svg("g", { class: `${name}-layer` }, instances.map((instance) => drawInstance(instance, name, unit)));
  frame.append(svg("svg", { class: "poses", "aria-hidden": "true", viewBox: `0 0 ${card.width} ${card.height}` },
    layer("gt", card.gt), layer("predictions", card.detections)));
  return frame;
}

function drawInstance(instance, layer, unit) {
  const { box: [x1, y1, x2, y2], points, conf, outcomes } = instance;
  const isGt = layer === "gt";
  const radius = Math.min(Math.max(0.02 * Math.max(x2 - x1, y2 - y1), 1.1 * unit), 2.6 * unit);
  const isDrawn = conf.map((value) => value > (isGt ? 0 : 0.1));
  const path = gallery.edges.filter(([a, b]) => isDrawn[a] && isDrawn[b])
    .map(([a, b]) => `M${points[2 * a]} ${points[2 * a + 1]}L${points[2 * b]} ${points[2 * b + 1]}`).join("");
  const circles = conf.map((value, index) => {
    if (!isDrawn[index]) return null;
    const classes = [];
    if (isGt && value === 1) classes.push("occluded");
    if (!isGt && value < 0.5) classes.push("invisible");
    if (!isGt && outcomes && outcomes[index] > LAST_GOOD_OUTCOME) classes.push("wrong");
    const [cx, cy] = [points[2 * index], points[2 * index + 1]];
    return svg("circle", { class: classes.join(" ") || null, cx, cy, r: radius });
  });
  const limbs = path ? [svg("path", { class: "halo", d: path }), svg("path", { class: "limbs", d: path })] : [];
  return svg("g", { class: "instance" },
    svg("rect", { class: "box", x: x1, y: y1, width: x2 - x1, height: y2 - y1 }), limbs, circles);
}

// Hide detections below the threshold and mark false positives and false negatives; returns a summary.
function applyThreshold(frame, card, conf) {
  const above = card.detections.map((detection) => detection.score >= conf);
  const isHit = card.gt.map((_, index) =>
    card.detections.some((detection, number) => above[number] && detection.pose_match === index));
  const groups = (layer) => [...frame.querySelectorAll(`.${layer}-layer > .instance`)];
  groups("predictions").forEach((node, number) => {
    node.classList.toggle("below", !above[number]);
    node.classList.toggle("unmatched", card.detections[number].pose_match < 0);
  });
  groups("gt").forEach((node, index) => node.classList.toggle("unmatched", !isHit[index]));
  const tp = isHit.filter((hit) => hit).length;
  const fp = above.filter((isAbove, number) => isAbove && card.detections[number].pose_match < 0).length;
  const poses = plural(card.gt.length, "pose", "poses");
  return `${tp} of ${poses} correct at OKS .50, ${plural(fp, "false positive", "false positives")}`;
}

function makeCard(card, index) {
  const button = html("button", { type: "button", "aria-label": `Enlarge ${card.name}` }, makeFrame(card));
  button.addEventListener("click", () => openViewer(shownCards.indexOf(index)));
  const summary = html("span", { class: "summary" });
  const row = gallery.all[card.rank];  // missing for the best images if the list is cut
  const badge = row ? `${card.label} · F1 ${formatNumber(row[4])}` : card.label;
  card.node = html("li", { class: "card", "data-name": card.name }, button,
    html("div", { class: "under" }, html("span", { class: "name", title: card.name }, html("bdi", {}, card.name)),
      html("span", { class: `badge ${card.label}` }, badge)), summary);
  card.update = (conf) => { summary.textContent = applyThreshold(button, card, conf); };
  return card.node;
}

function updateOrder() {
  const query = byId("search").value.trim().toLowerCase(), order = byId("order").value;
  const cards = gallery.cards;
  const matches = (name) => name.toLowerCase().includes(query);
  const sortRows = (rows, rank, name) => (order === "name"
    ? rows.sort((a, b) => (name(a) < name(b) ? -1 : 1))
    : rows.sort((a, b) => (rank(a) - rank(b)) * (order === "best" ? -1 : 1)));
  shownCards = sortRows([...cards.keys()].filter((index) => matches(cards[index].name)),
    (index) => cards[index].rank, (index) => cards[index].name);
  byId("cards").replaceChildren(...shownCards.map((index) => cards[index].node));
  const rows = sortRows([...gallery.all.keys()].filter((index) => matches(gallery.all[index][0])),
    (index) => index, (index) => gallery.all[index][0]);
  byId("search-count").textContent =
    `${plural(rows.length, "image", "images")}, ${formatCount(shownCards.length)} shown`;
  listImages(rows);
}

function listImages(rows) {
  const cardAt = new Map(gallery.cards.map((card, index) => [card.rank, index]));
  const header = ["Image", "Instances", "Detections", "Poses correct", "F1", ""];
  const lines = rows.slice(0, MAX_LISTED).map((rank) => {
    const [name, numGt, numDetections, tp, f1] = gallery.all[rank];
    let button = "";
    if (cardAt.has(rank)) {
      button = html("button", { type: "button", "aria-label": `Show ${name}` }, "show");
      button.addEventListener("click", () => openViewer(shownCards.indexOf(cardAt.get(rank))));
    }
    return [name, formatCount(numGt), formatCount(numDetections), formatCount(tp), formatNumber(f1), button];
  });
  const more = rows.length - lines.length, unlisted = gallery.num_images - gallery.all.length;
  byId("all").replaceChildren(...[
    rows.length ? makeTable("All images", header, lines) : html("p", {}, "No file name matches."),
    more > 0 ? html("p", { class: "small" }, `${plural(more, "more image", "more images")}: search by name.`) : null,
    unlisted > 0 ? html("p", { class: "small" },
      `The best ${formatCount(unlisted)} of ${formatCount(gallery.num_images)} images are not listed.`) : null,
  ].filter((part) => part));
}

function openViewer(position) {
  if (position < 0 || position >= shownCards.length) return;
  openPosition = position;
  const card = gallery.cards[shownCards[position]], frame = makeFrame(card), viewer = byId("viewer");
  frame.style.aspectRatio = `${card.width} / ${card.height}`;
  frame.style.width = `min(100%, ${(0.68 * card.width / card.height * 100).toFixed(1)}vh)`;
  byId("viewer-name").textContent = card.name;
  byId("viewer-image").replaceChildren(frame);
  const conf = Number(byId("conf-input").value);
  const lines = card.detections.filter((detection) => detection.score >= conf)
    .map((detection) => html("li", {}, describeDetection(detection)));
  byId("viewer-text").replaceChildren(
    html("p", {}, `${applyThreshold(frame, card, conf)}, at confidence threshold ${conf}.`),
    html("ul", { class: "small" }, lines));
  byId("viewer-previous").disabled = position === 0;
  byId("viewer-next").disabled = position === shownCards.length - 1;
  if (!viewer.open) viewer.showModal();
}

function describeDetection(detection) {
  const names = gallery.keypoint_names[detection.cls] || gallery.keypoint_names[0];
  const outcomes = detection.outcomes || [];
  const errors = Object.entries(ERROR_NAMES).flatMap(([outcome, error]) => {
    const points = names.filter((_, index) => outcomes[index] === Number(outcome));
    if (!points.length) return [];
    return `${error}: ${points.slice(0, 8).join(", ")}${points.length > 8 ? ` and ${points.length - 8} more` : ""}`;
  });
  let verdict = "false positive";
  if (detection.pose_match >= 0) verdict = "correct";
  else if (detection.box_match >= 0) verdict = "box correct, pose not";
  const name = gallery.class_names[detection.cls] || detection.cls;
  return `${name} ${formatNumber(detection.score)}: ${[verdict, ...errors].join("; ")}`;
}

function setLayer(layer, on) {
  document.body.classList.toggle(`hide-${layer}`, !on);
  for (const box of [byId(`show-${layer}`), byId(`viewer-${layer}`)]) box.checked = on;
}

function startImages() {
  const { cards, conf, stored_conf: storedConf, num_missing: numMissing, num_omitted: numOmitted } = gallery;
  const notes = ["The worst images and some of the best, by the mean F1 of poses over OKS .50:.95 at confidence " +
    `threshold ${formatNumber(conf)}. Detections are drawn from confidence ${storedConf}. Dashed: false positives and ` +
    "false negatives. Hollow keypoints: labeled as occluded. Red rings: inversions, swaps and misses."];
  if (numMissing) notes.push(`${plural(numMissing, "image is", "images are")} missing now: only the poses are shown.`);
  if (numOmitted) notes.push(`${plural(numOmitted, "image is", "images are")} omitted to keep this page below 5 MB.`);
  byId("images-text").append(notes.join(" "));
  cards.forEach(makeCard);
  confListeners.push((value) => cards.forEach((card) => card.update(value)));
  for (const name of ["search", "order"]) byId(name).addEventListener("input", updateOrder);
  for (const layer of LAYERS) {
    const label = byId(`show-${layer}`).parentNode;
    const viewerBox = html("input", { type: "checkbox", id: `viewer-${layer}` });
    byId("viewer-layers").append(html("label", { class: label.className }, viewerBox, label.textContent));
    for (const box of [byId(`show-${layer}`), viewerBox]) {
      box.addEventListener("change", () => setLayer(layer, box.checked));
    }
    setLayer(layer, layer !== "boxes");
  }
  byId("viewer-close").addEventListener("click", () => byId("viewer").close());
  byId("viewer-previous").addEventListener("click", () => openViewer(openPosition - 1));
  byId("viewer-next").addEventListener("click", () => openViewer(openPosition + 1));
  byId("viewer").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") openViewer(openPosition - 1);
    if (event.key === "ArrowRight") openViewer(openPosition + 1);
  });
  updateOrder();
}
