startTheme();
showRun();
showScores();
startThreshold();
startKeypoints();
showErrors();
startImages();
// rounded down to a step, so that the detection at the best threshold itself is included
setConf(Math.floor(gallery.conf * report.counts.steps + 1e-6) / report.counts.steps);
