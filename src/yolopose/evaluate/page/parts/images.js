const LAYERS = ["truth", "found", "boxes"];
const LISTED = 100;  // rows of the list of all images that are shown at once
const BAD_KINDS = { 2: "jitter", 3: "inversion", 4: "swap", 5: "miss" };
const gallery = report.images;
let shownCards = [];
let open = -1;

// One image with its poses as shapes above it, so that truth and prediction come and go by themselves.
function framed(card) {
  const frame = element("div", { class: "frame" });
  const unit = Math.max(card.width, card.height) / 320;
  const image = card.jpeg === null ? null
    : element("img", { src: `data:image/jpeg;base64,${card.jpeg}`, alt: "" });
  const layer = (kind, objects) => shape("g", { class: `${kind}-layer` }, objects.map((one) => posed(one, kind, unit)));
  frame.append(...[image].filter((part) => part), shape("svg", { class: "poses", "aria-hidden": "true",
    viewBox: `0 0 ${card.width} ${card.height}` }, layer("truth", card.truth), layer("found", card.found)));
  return frame;
}

function posed(one, kind, unit) {
  const [x1, y1, x2, y2] = one.b;
  const radius = Math.min(Math.max(0.02 * Math.max(x2 - x1, y2 - y1), 1.1 * unit), 2.6 * unit);
  const there = one.v.map((value) => value > (kind === "truth" ? 0 : 0.1));
  const lines = gallery.edges.filter(([a, b]) => there[a] && there[b])
    .map(([a, b]) => `M${one.p[2 * a]} ${one.p[2 * a + 1]}L${one.p[2 * b]} ${one.p[2 * b + 1]}`).join("");
  const points = one.v.map((value, index) => {
    if (!there[index]) return null;
    const wrong = kind === "found" && one.e && one.e[index] > 2;
    const name = kind === "truth" ? (value === 1 ? "hidden" : "") : `${value < 0.5 ? "unsure" : ""} ${wrong ? "wrong" : ""}`;
    return shape("circle", { class: name.trim() || null, cx: one.p[2 * index], cy: one.p[2 * index + 1], r: radius });
  });
  const limbs = lines ? [shape("path", { class: "halo", d: lines }), shape("path", { class: "limbs", d: lines })] : [];
  return shape("g", { class: "object" }, shape("rect", { class: "box", x: x1, y: y1, width: x2 - x1, height: y2 - y1 }),
    limbs, points);
}

// Which detections and truths stand at a threshold; a detection that hits nothing and a missed truth are dashed.
function judge(frame, card, conf) {
  const sure = card.found.map((one) => one.s >= conf);
  const hit = card.truth.map((_, index) => card.found.some((one, number) => sure[number] && one.k === index));
  const groups = (kind) => [...frame.querySelectorAll(`.${kind}-layer > .object`)];
  groups("found").forEach((node, number) => {
    node.classList.toggle("below", !sure[number]);
    node.classList.toggle("amiss", card.found[number].k < 0);
  });
  groups("truth").forEach((node, index) => node.classList.toggle("amiss", !hit[index]));
  const hits = hit.filter((fine) => fine).length, wrong = sure.filter((fine, number) => fine && card.found[number].k < 0).length;
  return `${hits} of ${plural(card.truth.length, "pose", "poses")} right at OKS .50, ${wrong} false`;
}

function cardOf(card, index) {
  const button = element("button", { type: "button", "aria-label": `Enlarge ${card.name}` }, framed(card));
  button.addEventListener("click", () => view(shownCards.indexOf(index)));
  const verdict = element("span", { class: "verdict" }), rank = gallery.all[card.row]; // best ones may be cut from the list
  card.node = element("li", { class: "card", "data-name": card.name }, button,
    element("div", { class: "under" }, element("span", { class: "name", title: card.name }, element("bdi", {}, card.name)),
      element("span", { class: `badge ${card.why}` }, rank ? `${card.why} · F1 ${digits(rank[4])}` : card.why)), verdict);
  card.judge = (conf) => { verdict.textContent = judge(button, card, conf); };
  return card.node;
}

function arrange() {
  const words = byId("search").value.trim().toLowerCase(), order = byId("order").value;
  const names = gallery.all.map((row) => row[0].toLowerCase());
  const sorted = (rows, place, name) => (order === "name"
    ? rows.sort((a, b) => (name(a) < name(b) ? -1 : 1)) : rows.sort((a, b) => (place(a) - place(b)) * (order === "best" ? -1 : 1)));
  const cards = gallery.cards;
  shownCards = sorted(cards.map((_, index) => index).filter((index) => cards[index].name.toLowerCase().includes(words)),
    (index) => cards[index].row, (index) => cards[index].name);
  byId("cards").replaceChildren(...shownCards.map((index) => cards[index].node));
  const rows = sorted(names.map((_, index) => index).filter((index) => names[index].includes(words)),
    (index) => index, (index) => gallery.all[index][0]);
  byId("search-count").textContent = `${plural(rows.length, "image", "images")}, ${whole(shownCards.length)} shown`;
  listAll(rows);
}

function listAll(rows) {
  const shown = new Map(gallery.cards.map((card, index) => [card.row, index]));
  const heads = ["Image", "Objects", "Detections", "Poses right", "F1", ""];
  const lines = rows.slice(0, LISTED).map((index) => {
    const [name, truths, found, hits, f1] = gallery.all[index];
    let button = "";
    if (shown.has(index)) {
      button = element("button", { type: "button", "aria-label": `Show ${name}` }, "show");
      button.addEventListener("click", () => view(shownCards.indexOf(shown.get(index))));
    }
    return [name, whole(truths), whole(found), whole(hits), digits(f1), button];
  });
  const rest = rows.length - lines.length, cut = gallery.count - gallery.all.length;
  byId("all").replaceChildren(...[rows.length ? table("All images", heads, lines) : element("p", {}, "No image has such a name."),
    rest > 0 ? element("p", { class: "small" }, `${plural(rest, "more image", "more images")}: search by name to see others.`) : null,
    cut > 0 ? element("p", { class: "small" }, `The best ${whole(cut)} of ${whole(gallery.count)} images are not listed.`) : null,
  ].filter((part) => part));
}

function view(place) {
  if (place < 0 || place >= shownCards.length) return;
  open = place;
  const card = gallery.cards[shownCards[place]], frame = framed(card), viewer = byId("viewer");
  frame.style.aspectRatio = `${card.width} / ${card.height}`;
  frame.style.width = `min(100%, ${(0.68 * card.width / card.height * 100).toFixed(1)}vh)`;
  byId("viewer-name").textContent = card.name;
  byId("viewer-image").replaceChildren(frame);
  const conf = Number(byId("conf-exactly").value);
  byId("viewer-words").replaceChildren(element("p", {}, `${judge(frame, card, conf)} from confidence ${conf} on.`),
    element("ul", { class: "small" }, card.found.filter((one) => one.s >= conf).map((one) => element("li", {}, inWords(one)))));
  byId("viewer-before").disabled = place === 0;
  byId("viewer-next").disabled = place === shownCards.length - 1;
  if (!viewer.open) viewer.showModal();
}

function inWords(one) {
  const names = gallery.points[one.c] || gallery.points[0];
  const kinds = Object.entries(BAD_KINDS).map(([kind, word]) => {
    const points = (one.e || []).flatMap((value, index) => (value === Number(kind) ? [names[index]] : []));
    return points.length ? `${word}: ${points.slice(0, 8).join(", ")}${points.length > 8 ? ` and ${points.length - 8} more` : ""}` : null;
  }).filter((words) => words);
  const verdict = one.k >= 0 ? "right" : one.h >= 0 ? "box right, pose not" : "hits nothing";
  return `${gallery.classes[one.c] || one.c} ${digits(one.s)}: ${verdict}${kinds.length ? `; ${kinds.join("; ")}` : ""}`;
}

function setLayer(layer, on) {
  document.body.classList.toggle(`hide-${layer}`, !on);
  for (const box of [byId(`show-${layer}`), byId(`viewer-${layer}`)]) box.checked = on;
}

function startImages() {
  const { cards, conf, kept_from: from, gone, without_room: left } = gallery;
  const notes = [`The worst images and some of the best, by F1 of poses (the mean over OKS .50 to .95) from confidence ` +
    `${digits(conf)} on. Detections are drawn from ${from} on; dashed ones hit nothing, dashed truths are missed, hollow ` +
    "points are hidden ones, red rings are inversions, swaps and misses."];
  if (gone) notes.push(`${plural(gone, "image was", "images were")} not there any more: poses alone are shown.`);
  if (left) notes.push(`${plural(left, "image is", "images are")} left out to keep this page under 5 MB.`);
  byId("images-words").append(notes.join(" "));
  cards.forEach(cardOf);
  listeners.push((value) => cards.forEach((card) => card.judge(value)));
  for (const name of ["search", "order"]) byId(name).addEventListener("input", arrange);
  for (const layer of LAYERS) {
    const words = byId(`show-${layer}`).parentNode;
    const twin = element("input", { type: "checkbox", id: `viewer-${layer}` });
    byId("viewer-ticks").append(element("label", { class: words.className }, twin, words.textContent));
    for (const box of [byId(`show-${layer}`), twin]) box.addEventListener("change", () => setLayer(layer, box.checked));
    setLayer(layer, layer !== "boxes");
  }
  byId("viewer-close").addEventListener("click", () => byId("viewer").close());
  byId("viewer-before").addEventListener("click", () => view(open - 1));
  byId("viewer-next").addEventListener("click", () => view(open + 1));
  byId("viewer").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") view(open - 1);
    if (event.key === "ArrowRight") view(open + 1);
  });
  arrange();
}
