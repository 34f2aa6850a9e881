function startTheme() {
  let kept = "";
  try { kept = localStorage.getItem("yolopose-theme") || ""; } catch { /* a page from disk may have no storage */ }
  const set = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  for (const choice of document.querySelectorAll("input[name=theme]")) {
    choice.checked = choice.value === kept;
    choice.addEventListener("change", () => {
      set(choice.value);
      try { localStorage.setItem("yolopose-theme", choice.value); } catch { /* likewise */ }
    });
  }
  set(kept);
}

startTheme();
showRun();
showNumbers();
startThreshold();
startKeypoints();
showErrors();
startImages();
setConf(Math.floor(gallery.conf * report.counts.steps + 1e-6) / report.counts.steps);
