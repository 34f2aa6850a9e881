// Detections are summed up by class and step of confidence; those from a threshold on are the sums above its step.
const counted = { level: 0, cls: "", truths: 0, found: [], box: [], pose: [] };
const listeners = [];
const KINDS = [["pose", "Poses"], ["box", "Boxes"]];

function sumUp() {
  const { steps, classes } = report.counts;
  const chosen = counted.cls === "" ? classes : [classes[Number(counted.cls)]];
  for (const name of ["found", "box", "pose"]) counted[name] = new Array(steps + 2).fill(0);
  counted.truths = chosen.reduce((sum, one) => sum + one.truths, 0);
  for (const one of chosen) {
    one.step.forEach((step, row) => {
      counted.found[step] += one.count[row];
      for (const [kind] of KINDS) counted[kind][step] += one[kind][counted.level][row];
    });
  }
  for (const name of ["found", "box", "pose"]) {
    for (let step = steps - 1; step >= 0; step--) counted[name][step] += counted[name][step + 1];
  }
}

function countsAt(kind, step) {
  const tp = counted[kind][step], fp = counted.found[step] - tp, fn = counted.truths - tp;
  const share = (part, all) => (all ? part / all : 0);
  return { tp, fp, fn, p: share(tp, tp + fp), r: share(tp, tp + fn), f: share(2 * tp, 2 * tp + fp + fn) };
}

const stepNow = () => Math.round(Number(byId("conf-exactly").value) * report.counts.steps);

function setConf(value) {
  const { steps } = report.counts;
  const conf = Math.round(Math.min(Math.max(Number(value) || 0, 0), 1) * steps) / steps;
  byId("conf").value = conf;
  byId("conf").setAttribute("aria-valuetext", `confidence ${conf}`);
  byId("conf-exactly").value = conf;
  showCounts();
  for (const listener of listeners) listener(conf);
}

function showCounts() {
  const step = stepNow();
  const rows = KINDS.map(([kind, words]) => {
    const found = countsAt(kind, step);
    return [words, ...["tp", "fp", "fn"].map((name) => whole(found[name])),
      ...["p", "r", "f"].map((name) => digits(found[name], 4))];
  });
  const heads = ["", "Hits (TP)", "False (FP)", "Missed (FN)", "Precision", "Recall", "F1"];
  byId("counts").replaceChildren(table("Counts at the threshold", heads, rows));
  for (const [kind] of KINDS) {
    const marker = byId(`here-${kind}`);
    if (marker) marker.setAttribute("transform", `translate(${36 + 380 * step / report.counts.steps} 0)`);
  }
}

function showCurves() {
  const { steps } = report.counts;
  byId("curves").replaceChildren(...KINDS.map(([kind, words]) => {
    const lines = { p: [], r: [], f: [] };
    for (let step = 0; step <= steps; step++) {
      const found = countsAt(kind, step);
      const any = counted.found[step] > 0;  // precision of nothing is no number
      for (const name of ["p", "r", "f"]) {
        if (any || name !== "p") lines[name].push(`${(36 + 380 * step / steps).toFixed(1)},${(210 - 200 * found[name]).toFixed(1)}`);
      }
    }
    const here = shape("g", { id: `here-${kind}` }, shape("line", { class: "here", x1: 0, x2: 0, y1: 6, y2: 210 }));
    const label = `${words}: precision, recall and F1 over the threshold; the table above tells the numbers`;
    return element("div", {}, element("h3", {}, words), element("div", { class: "legend" },
      element("span", { class: "key-p" }, "Precision"), element("span", { class: "key-r" }, "Recall"),
      element("span", { class: "key-f" }, "F1")),
    shape("svg", { class: "chart", viewBox: "0 0 424 240", role: "img", "aria-label": label }, axes("confidence"),
      Object.entries(lines).map(([name, points]) =>
        shape("polyline", { class: `curve of-${name}`, points: points.join(" ") })), here));
  }));
}

function axes(words) {
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  return [
    ...ticks.map((value) => shape("line", { class: "axis", x1: 36, x2: 416, y1: 210 - 200 * value, y2: 210 - 200 * value })),
    ...ticks.map((value) => shape("text", { x: 30, y: 214 - 200 * value, "text-anchor": "end" }, String(value))),
    ...ticks.map((value) => shape("text", { x: 36 + 380 * value, y: 225, "text-anchor": "middle" }, String(value))),
    shape("text", { x: 226, y: 238, "text-anchor": "middle" }, words)];
}

function showTrust() {
  for (const [kind, words] of KINDS) {
    const { bins, ece } = report.trust[kind];
    const bars = bins.map(([count, confidence, rate], bin) => (count ? shape("rect", { class: "bin",
      x: 36 + 380 * bin / bins.length + 2, width: 380 / bins.length - 4, y: 210 - 200 * rate, height: 200 * rate },
    shape("title", {}, `${plural(count, "detection", "detections")} of mean confidence ${digits(confidence)}: ` +
      `${percent(rate)} are hits`)) : null));
    const ideal = shape("line", { class: "ideal", x1: 36, x2: 416, y1: 210, y2: 10 });
    byId("trust").append(element("div", {}, element("h3", {}, words),
      element("p", { class: "small" }, `Share of hits by confidence. On the dashed line it is what the confidence says; ` +
        `the mean distance from it over all detections (ECE) is ${digits(ece)}.`),
      shape("svg", { class: "chart", viewBox: "0 0 424 240", role: "img",
        "aria-label": `${words}: share of hits over confidence` }, axes("confidence"), bars, ideal)));
  }
}

function startThreshold() {
  const { levels, classes } = report.counts;
  byId("level").append(...levels.map((level, index) => element("option", { value: index }, level.toFixed(2).slice(1))));
  byId("class").append(element("option", { value: "" }, "all"),
    ...classes.map((one, index) => element("option", { value: index }, one.name)));
  byId("class-label").style.display = classes.length < 2 ? "none" : "";
  const again = () => {
    counted.level = Number(byId("level").value);
    counted.cls = byId("class").value;
    sumUp();
    showCurves();
    showCounts();
  };
  byId("level").addEventListener("change", again);
  byId("class").addEventListener("change", again);
  byId("conf").addEventListener("input", () => setConf(byId("conf").value));
  byId("conf-exactly").addEventListener("change", () => setConf(byId("conf-exactly").value));
  byId("conf-best").addEventListener("click", () => setConf(bestConf()));
  again();
  showTrust();
}

function bestConf() {
  let best = 0;
  for (let step = 0; step <= report.counts.steps; step++) {
    if (countsAt("pose", step).f > countsAt("pose", best).f) best = step;
  }
  return best / report.counts.steps;
}
