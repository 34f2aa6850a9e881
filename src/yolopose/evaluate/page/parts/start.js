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

startTheme();
showRun();
showScores();
startThreshold();
startKeypoints();
showErrors();
startImages();
// rounded down to a step, so that the detection at the best threshold itself is included
setConf(Math.floor(gallery.conf * report.counts.steps + 1e-6) / report.counts.steps);
