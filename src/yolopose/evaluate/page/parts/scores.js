function showScores() {
  const { rows, level, draws } = report.scores;
  for (const kind of ["Poses", "Boxes"]) {
    const measures = rows.filter((row) => row.kind === kind).map(makeMeasure);
    byId("scores-kinds").append(html("div", { "data-kind": kind }, html("h3", {}, kind), measures));
  }
  byId("scores-text").append(
    `Bands are ${Math.round(100 * level)} % confidence intervals from ${formatCount(draws)} bootstrap resamples ` +
    "of the images. Precision and recall are read at the confidence of the best F1.");
  if (report.pixels) showPixels();
  if (report.visibility) showVisibility();
  if (report.classes.length > 1) showClasses();
  if (Object.keys(report.coco).length) showCoco();
}

function showPixels() {
  const { mean, low, high, median, rmse, share, pck, labeled, undetected } = report.pixels;
  const distances = isMissing(mean) ? "No labeled keypoint has a detection." :
    `Distance of keypoints from their labels, pixels of the original images: mean ${formatNumber(mean, 2)} ` +
    `(95 % interval ${formatNumber(low, 2)} to ${formatNumber(high, 2)}; ${formatPercent(share)} of the box ` +
    `diagonal), median ${formatNumber(median, 2)}, root mean square ${formatNumber(rmse, 2)}.`;
  const text = `${distances} PCK is the share of keypoints within 2, 5 or 10 pixels. ${formatCount(undetected)} of ` +
    `${plural(labeled, "labeled keypoint belongs", "labeled keypoints belong")} to instances without detection; ` +
    "they have no distance, and are wrong in PCK.";
  byId("scores-pixels").append(html("h3", {}, "Keypoint error in pixels"), html("p", {}, text),
    html("div", {}, pck.map(makeMeasure)));
}

function showVisibility() {
  const states = ["absent", "hidden", "visible"];
  const rows = report.visibility.map((row) => [row.State, formatCount(row.Keypoints), formatPercent(row.Accuracy),
    ...states.map((state) => formatCount(row[state]))]);
  byId("scores-pixels").append(html("h3", {}, "Visibility of keypoints"),
    makeTable("States of the keypoints of detected instances, as labeled (rows) and as predicted (columns)",
      ["Labeled as", "Keypoints", "Accuracy", ...states], rows));
}

function makeMeasure(row) {
  const hasInterval = row.low !== undefined;
  const segments = hasInterval ? [["band", row.low, row.high], ["mark", row.value]] : [["fill", 0, row.value]];
  const interval = hasInterval ? `${formatNumber(row.low)} to ${formatNumber(row.high)}` : "";
  return html("div", { class: hasInterval ? "measure" : "measure plain" },
    html("span", {}, row.name), html("span", { class: "value" }, formatNumber(row.value)),
    makeBar(segments), html("span", { class: "interval" }, interval));
}

function showClasses() {
  const scores = ["R", "mAP50", "mAP50-95"];
  const header = ["Class", "Images", "Instances", "Pose P", ...scores, "Box P", ...scores];
  const rows = report.classes.map((row) => [row.name, formatCount(row.images), formatCount(row.instances),
    ...[...row.values.slice(4), ...row.values.slice(0, 4)].map((value) => formatNumber(value))]);
  byId("scores-classes").append(html("h3", {}, "Classes"), makeTable("Scores of each class", header, rows));
}

function showCoco() {
  const names = [...new Set(Object.keys(report.coco).map((key) => key.slice(0, key.indexOf("("))))];
  const rows = names.map((name) =>
    [name, ...["P", "B"].map((letter) => formatNumber(report.coco[`${name}(${letter})`]))]);
  byId("scores-coco").append(html("h3", {}, "COCO protocol"),
    makeTable("COCO protocol", ["", "Poses", "Boxes"], rows));
}

function showErrors() {
  const { rows, good, total } = report.errors;
  const maxCost = Math.max(...rows.map((row) => Math.abs(row.cost)), 0.001);
  const withShare = (points) => `${formatCount(points)} (${formatPercent(total ? points / total : null)})`;
  const cells = rows.flatMap((row) => [
    html("span", { class: "name" }, row.name), html("span", {}, withShare(row.points)),
    html("span", { class: "bar" }, makeBar([["fill", 0, Math.max(row.cost, 0) / maxCost]])),
    html("span", { title: `mAP50: ${formatSigned(row.cost50)}` }, `${formatSigned(row.cost)} mAP50-95`)]);
  const header = ["Error", "Keypoints", "Cost", ""].map((text) => html("span", { class: "head" }, text));
  byId("error-kinds").append(html("div", { class: "kinds" }, header, cells),
    html("p", { class: "small" }, total
      ? `The other ${withShare(good)} of ${formatCount(total)} labeled keypoints of detected instances are good.`
      : "No detected instance has a labeled keypoint."));
  const slices = report.slices.map((row) => [`${row.By}: ${row.Slice}`, formatCount(row.Instances),
    formatNumber(row["Pose-mAP50-95"]), formatNumber(row["Box-mAP50-95"])]);
  byId("slices").append(makeTable("mAP50-95 of slices", ["Slice", "Instances", "Poses", "Boxes"], slices));
}

function showRun() {
  document.title = `${report.title}: validation report`;
  byId("title").textContent = report.title;
  for (const note of report.notes) byId("notes").append(html("p", { class: "note" }, note));
  for (const [name, text] of report.facts) byId("facts").append(html("dt", {}, name), html("dd", {}, text));
}
