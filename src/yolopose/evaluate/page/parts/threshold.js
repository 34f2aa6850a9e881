const KINDS = [["pose", "Poses"], ["box", "Boxes"]];
const confListeners = [];  // called with the confidence threshold when it changes
// cumulative counts: entry k counts the detections at the threshold k / report.counts.steps
const counts = { level: 0, cls: "", numGt: 0, detections: [], box: [], pose: [] };

// plot area of the charts, in units of their view box
const LEFT = 36, BOTTOM = 210, WIDTH = 380, HEIGHT = 200;
const chartX = (share) => LEFT + WIDTH * share;
const chartY = (share) => BOTTOM - HEIGHT * share;

function updateCounts() {
  const { steps, classes } = report.counts;
  const selected = counts.cls === "" ? classes : [classes[Number(counts.cls)]];
  for (const name of ["detections", "box", "pose"]) counts[name] = new Array(steps + 2).fill(0);
  counts.numGt = selected.reduce((sum, histogram) => sum + histogram.num_gt, 0);
  for (const histogram of selected) {
    histogram.step.forEach((step, row) => {
      counts.detections[step] += histogram.count[row];
      for (const [kind] of KINDS) counts[kind][step] += histogram[kind][counts.level][row];
    });
  }
  for (const name of ["detections", "box", "pose"]) {
    for (let step = steps - 1; step >= 0; step--) counts[name][step] += counts[name][step + 1];
  }
}

function scoresAt(kind, step) {
  const tp = counts[kind][step], fp = counts.detections[step] - tp, fn = counts.numGt - tp;
  const ratio = (part, all) => (all ? part / all : 0);
  return { tp, fp, fn, p: ratio(tp, tp + fp), r: ratio(tp, tp + fn), f: ratio(2 * tp, 2 * tp + fp + fn) };
}

const currentStep = () => Math.round(Number(byId("conf-input").value) * report.counts.steps);

function setConf(value) {
  const { steps } = report.counts;
  const conf = Math.round(Math.min(Math.max(Number(value) || 0, 0), 1) * steps) / steps;
  byId("conf").value = conf;
  byId("conf").setAttribute("aria-valuetext", `confidence ${conf}`);
  byId("conf-input").value = conf;
  showCounts();
  for (const listener of confListeners) listener(conf);
}

function showCounts() {
  const step = currentStep();
  const rows = KINDS.map(([kind, title]) => {
    const scores = scoresAt(kind, step);
    return [title, ...["tp", "fp", "fn"].map((name) => formatCount(scores[name])),
      ...["p", "r", "f"].map((name) => formatNumber(scores[name], 4))];
  });
  const header = ["", "TP", "FP", "FN", "Precision", "Recall", "F1"];
  byId("counts").replaceChildren(makeTable("Counts at the threshold", header, rows));
  for (const [kind] of KINDS) {
    const marker = byId(`marker-${kind}`);
    if (marker) marker.setAttribute("transform", `translate(${chartX(step / report.counts.steps)} 0)`);
  }
}

function showCurves() {
  const { steps } = report.counts;
  byId("curves").replaceChildren(...KINDS.map(([kind, title]) => {
    const lines = { p: [], r: [], f: [] };
    for (let step = 0; step <= steps; step++) {
      const scores = scoresAt(kind, step);
      const hasDetections = counts.detections[step] > 0;  // without them precision is undefined
      for (const name of ["p", "r", "f"]) {
        if (name === "p" && !hasDetections) continue;
        lines[name].push(`${chartX(step / steps).toFixed(1)},${chartY(scores[name]).toFixed(1)}`);
      }
    }
    const marker = svg("g", { id: `marker-${kind}` },
      svg("line", { class: "marker", x1: 0, x2: 0, y1: 6, y2: BOTTOM }));
    const label = `${title}: precision, recall and F1 over the confidence threshold; the table above lists the values`;
    return html("div", {}, html("h3", {}, title), html("div", { class: "legend" },
      html("span", { class: "key-p" }, "Precision"), html("span", { class: "key-r" }, "Recall"),
      html("span", { class: "key-f" }, "F1")),
    svg("svg", { class: "chart", viewBox: "0 0 424 240", role: "img", "aria-label": label }, chartAxes("confidence"),
      Object.entries(lines).map(([name, points]) =>
        svg("polyline", { class: `curve curve-${name}`, points: points.join(" ") })), marker));
  }));
}

function chartAxes(label) {
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  return [
    ...ticks.map((value) =>
      svg("line", { class: "axis", x1: LEFT, x2: chartX(1), y1: chartY(value), y2: chartY(value) })),
    ...ticks.map((value) => svg("text", { x: LEFT - 6, y: chartY(value) + 4, "text-anchor": "end" }, String(value))),
    ...ticks.map((value) => svg("text", { x: chartX(value), y: BOTTOM + 15, "text-anchor": "middle" }, String(value))),
    svg("text", { x: chartX(0.5), y: BOTTOM + 28, "text-anchor": "middle" }, label)];
}

function showCalibration() {
  for (const [kind, title] of KINDS) {
    const { bins, ece } = report.calibration[kind];
    const width = WIDTH / bins.length;
    const bars = bins.map(([count, confidence, rate], bin) => (count ? svg("rect", { class: "bin",
      x: LEFT + width * bin + 2, width: width - 4, y: chartY(rate), height: HEIGHT * rate },
    svg("title", {}, `${plural(count, "detection", "detections")} with mean confidence ${formatNumber(confidence)}: ` +
      `${formatPercent(rate)} true positives`)) : null));
    const ideal = svg("line", { class: "ideal", x1: LEFT, x2: chartX(1), y1: BOTTOM, y2: chartY(1) });
    byId("calibration").append(html("div", {}, html("h3", {}, title),
      html("p", { class: "small" }, "Share of true positives by confidence. The dashed line is perfect calibration; " +
        `the expected calibration error (ECE), the mean distance from it, is ${formatNumber(ece)}.`),
      svg("svg", { class: "chart", viewBox: "0 0 424 240", role: "img",
        "aria-label": `${title}: share of true positives over confidence` }, chartAxes("confidence"), bars, ideal)));
  }
}

function startThreshold() {
  const { levels, classes } = report.counts;
  byId("level").append(...levels.map((level, index) => html("option", { value: index }, level.toFixed(2).slice(1))));
  byId("class").append(html("option", { value: "" }, "all"),
    ...classes.map((histogram, index) => html("option", { value: index }, histogram.name)));
  byId("class-label").style.display = classes.length < 2 ? "none" : "";
  const update = () => {
    counts.level = Number(byId("level").value);
    counts.cls = byId("class").value;
    updateCounts();
    showCurves();
    showCounts();
  };
  byId("level").addEventListener("change", update);
  byId("class").addEventListener("change", update);
  byId("conf").addEventListener("input", () => setConf(byId("conf").value));
  byId("conf-input").addEventListener("change", () => setConf(byId("conf-input").value));
  byId("conf-best").addEventListener("click", () => setConf(bestConf()));
  update();
  showCalibration();
}

function bestConf() {
  let best = 0;
  for (let step = 0; step <= report.counts.steps; step++) {
    if (scoresAt("pose", step).f > scoresAt("pose", best).f) best = step;
  }
  return best / report.counts.steps;
}
