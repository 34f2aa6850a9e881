function showNumbers() {
  const { rows, level, draws } = report.numbers;
  for (const kind of ["Poses", "Boxes"]) {
    const lines = rows.filter((row) => row.kind === kind).map(measure);
    byId("numbers-kinds").append(element("div", { "data-kind": kind }, element("h3", {}, kind), lines));
  }
  byId("numbers-words").append(
    `Bands are ${Math.round(100 * level)} % intervals from ${whole(draws)} draws of the images: where the number ` +
    "would lie for other images of the same kind. Precision and recall are read at the confidence of the best F1.");
  if (report.classes.length > 1) showClasses();
  if (Object.keys(report.coco).length) showCoco();
}

const LONG_NAMES = { P: "Precision", R: "Recall" };

function measure(row) {
  const sure = row.low !== undefined;
  const parts = sure ? [["band", row.low, row.high], ["mark", row.value]] : [["fill", 0, row.value]];
  const within = sure ? `${digits(row.low)} to ${digits(row.high)}` : "";
  return element("div", { class: sure ? "measure" : "measure plain" },
    element("span", {}, LONG_NAMES[row.name] || row.name), element("span", { class: "value" }, digits(row.value)),
    track(parts), element("span", { class: "within" }, within));
}

function showClasses() {
  const heads = ["Class", "Images", "Objects", "Pose P", "R", "mAP50", "mAP50-95", "Box P", "R", "mAP50", "mAP50-95"];
  const rows = report.classes.map((row) => [row.name, whole(row.images), whole(row.objects),
    ...[...row.values.slice(4), ...row.values.slice(0, 4)].map((value) => digits(value))]);
  byId("numbers-classes").append(element("h3", {}, "Classes"), table("Numbers of each class", heads, rows));
}

function showCoco() {
  const names = [...new Set(Object.keys(report.coco).map((key) => key.slice(0, key.indexOf("("))))];
  const rows = names.map((name) => [name, ...["P", "B"].map((letter) => digits(report.coco[`${name}(${letter})`]))]);
  byId("numbers-coco").append(element("h3", {}, "COCO protocol"), table("COCO protocol", ["", "Poses", "Boxes"], rows));
}

function showErrors() {
  const { rows, good, total } = report.errors;
  const most = Math.max(...rows.map((row) => Math.abs(row.cost)), 0.001);
  const share = (points) => `${whole(points)} (${percent(total ? points / total : null)})`;
  const cells = rows.flatMap((row) => [
    element("span", { class: "name" }, row.name), element("span", {}, share(row.points)),
    element("span", { class: "bar" }, track([["fill", 0, Math.max(row.cost, 0) / most]])),
    element("span", { title: `mAP50: ${signed(row.cost50)}` }, `${signed(row.cost)} mAP50-95`)]);
  const heads = ["Error", "Points", "Cost", ""].map((text) => element("span", { class: "head" }, text));
  byId("error-kinds").append(element("div", { class: "kinds" }, heads, cells),
    element("p", { class: "small" }, total
      ? `The other ${share(good)} of ${whole(total)} labeled points of found objects are good.`
      : "No labeled point belongs to an object that was found."));
  const parts = report.slices.map((row) => [`${row.By}: ${row.Part}`, whole(row.Truths), digits(row["Pose-mAP50-95"]),
    digits(row["Box-mAP50-95"])]);
  byId("slices").append(table("mAP50-95 of parts of the truth", ["Part", "Objects", "Poses", "Boxes"], parts));
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

function showRun() {
  document.title = `${report.title}: validation report`;
  byId("title").textContent = report.title;
  for (const words of report.notes) byId("notes").append(element("p", { class: "note" }, words));
  for (const [name, words] of report.facts) byId("facts").append(element("dt", {}, name), element("dd", {}, words));
}
