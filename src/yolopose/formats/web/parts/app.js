// Connects the parts of the page: frames of the source go through the engine, and detections are shown.

import { Engine, availableEngines } from "./engine.js";
import { close, nextFrame, openCamera, openFile } from "./sources.js";
import { Stage } from "./stage.js";

const byId = (id) => document.getElementById(id);
const video = byId("video");
const ENGINE_NAMES = { webgpu: "GPU (WebGPU)", wasm: "CPU (WebAssembly)" };

let metadata; // model.json
let engine;
let stage;
let source = null; // the open image, video or camera

// -- texts of the page ---------------------------------------------------------------------------------------------

function showError(error) {
  byId("message").textContent = error.message || String(error);
  byId("message").hidden = false;
}

function setStatus(text) {
  byId("status").textContent = text;
}

function describe() {
  document.title = `${metadata.name} · poses`;
  byId("title").textContent = metadata.name;
  const kinds = metadata.classes.map(({ name }) => name);
  const some = kinds.slice(0, 4).join(", ") + (kinds.length > 4 ? ` and ${kinds.length - 4} more` : "");
  const points = `${metadata.kpt_shape[0]} keypoint${metadata.kpt_shape[0] === 1 ? "" : "s"}`;
  byId("description").textContent = `Detects ${some} with ${points} each. Runs in this browser; nothing is sent anywhere.`;
  byId("license").textContent = metadata.license ? `Weights: ${metadata.license}. ` : "";
  const slider = byId("conf");
  slider.min = metadata.floor;
  slider.value = metadata.conf;
  byId("conf-value").textContent = Number(slider.value).toFixed(2);
}

/** Shows the number of detections of each class, and the time of a frame. */
function showSummary(detections, times) {
  const counts = new Map();
  for (const { cls } of detections) counts.set(cls, (counts.get(cls) || 0) + 1);
  const sorted = [...counts].sort(([a], [b]) => a - b);
  const kinds = sorted.map(([cls, count]) => `${count} × ${metadata.classes[cls].name}`);
  byId("summary").textContent = kinds.join(", ") || "no detection above this confidence";
  if (!times || !source) return;
  const total = times.before + times.network + times.after;
  const rate = source.kind === "image" ? "" : `${frameRate()} frames per second · `;
  setStatus(`${rate}${Math.round(total)} ms per frame, ${Math.round(times.network)} ms in the network`);
}

const frameTimes = [];

/** Returns frames per second over the last two seconds. */
function frameRate() {
  const now = performance.now();
  frameTimes.push(now);
  while (now - frameTimes[0] > 2000) frameTimes.shift();
  return frameTimes.length > 1 ? ((frameTimes.length - 1) * 1000 / (now - frameTimes[0])).toFixed(1) : "–";
}

// -- from a source to detections ----------------------------------------------------------------------------------

/** Opens the source that `getSource` returns, and closes the previous one. */
async function open(getSource) {
  const previous = source;
  source = null;
  byId("message").hidden = true;
  if (previous && previous.kind !== "image") close(video);
  frameTimes.length = 0;
  try {
    const opened = await getSource();
    source = opened;
    await play(opened);
  } catch (error) {
    if (!source) close(video);
    showError(error);
  }
  updateControls();
}

/** Shows the frames of a source until another one is opened; an image once. */
async function play(current) {
  updateControls();
  do {
    const result = await engine.detect(stage.capture(current), conf());
    if (source !== current) return;
    show(result);
    if (current.kind !== "image") {
      await nextFrame(video);
      Object.assign(current, { width: video.videoWidth, height: video.videoHeight }); // a phone may be rotated
    }
  } while (source === current && current.kind !== "image");
}

/** Shows detections, and emits them as the document's event `poses`, for pages derived from this one. */
function show({ found, times }) {
  stage.show(found);
  showSummary(found, times);
  document.dispatchEvent(new CustomEvent("poses", { detail: { found, times, source: source?.name } }));
}

const conf = () => Number(byId("conf").value);

/** Shows the controls for the kind of source. */
function updateControls() {
  byId("empty").hidden = Boolean(stage?.size);
  byId("canvas").hidden = !stage?.size && !source;
  byId("playing").hidden = source?.kind !== "video";
  byId("camera").textContent = source?.kind === "camera" ? "Stop the camera" : "Use the camera";
  byId("summary").setAttribute("aria-live", source?.kind === "image" ? "polite" : "off");
}

/** Starts the first engine of a list; the next one if that fails. */
async function startEngine(names) {
  const [name, ...others] = names;
  engine?.stop();
  byId("page").setAttribute("aria-busy", "true");
  setStatus("Loading the network…");
  try {
    const progress = (share) => setStatus(`Loading the network…${Number.isNaN(share) ? "" : ` ${Math.round(100 * share)} %`}`);
    engine = await Engine.start(metadata, name, progress);
  } catch (error) {
    if (!others.length) throw error;
    byId("engine").value = others[0];
    return startEngine(others); // some drivers report features that do not work
  }
  byId("page").removeAttribute("aria-busy");
  const threads = engine.info.threads > 1 ? ` on ${engine.info.threads} threads` : "";
  setStatus(`Ready: ${metadata.imgsz[1]} × ${metadata.imgsz[0]}, ${ENGINE_NAMES[name]}${threads}.`);
}

// -- start --------------------------------------------------------------------------------------------------------

function listen(names) {
  const applySettings = () => {
    stage.settings = { boxes: byId("boxes").checked, points: byId("points").checked, names: byId("names").checked };
    stage.paint();
  };
  for (const id of ["boxes", "points", "names"]) byId(id).addEventListener("change", applySettings);
  applySettings();
  byId("conf").addEventListener("input", async () => {
    byId("conf-value").textContent = conf().toFixed(2);
    if (!stage.size || (source?.kind !== "image" && !video.paused)) return; // the next frame uses it anyway
    show(await engine.filter(conf()));
  });
  byId("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    if (file) open(() => openFile(file, video));
    target.value = ""; // else choosing the same file again would emit no event
  });
  byId("camera").addEventListener("click", () => {
    if (source?.kind !== "camera") return open(() => openCamera(video));
    source = null;
    close(video);
    updateControls();
  });
  listenToDrops();
  listenToVideo();
  byId("engine").replaceChildren(...names.map((name) => new Option(ENGINE_NAMES[name], name)));
  byId("engines").hidden = names.length < 2;
  byId("engine").value = engine.info.engine;
  byId("engine").addEventListener("change", async ({ target }) => {
    const current = source;
    source = null; // ends the loop that waits for the old engine
    try {
      await startEngine([target.value, ...names.filter((name) => name !== target.value)]);
      source = current;
      if (current) await play(current);
    } catch (error) {
      showError(error);
    }
  });
  for (const control of document.querySelectorAll("[disabled]")) control.disabled = false;
}

function listenToDrops() {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) open(() => openFile(file, video));
    else showError("The dropped item is not a file. Save the image first, then drop the file here.");
  });
}

function listenToVideo() {
  byId("play").addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  for (const event of ["play", "pause"]) {
    video.addEventListener(event, () => { byId("play").textContent = video.paused ? "Play" : "Pause"; });
  }
  video.addEventListener("timeupdate", () => {
    if (Number.isFinite(video.duration)) byId("seek").value = video.currentTime / video.duration;
  });
  byId("seek").addEventListener("input", ({ target }) => {
    if (Number.isFinite(video.duration)) video.currentTime = target.value * video.duration;
  });
}

async function start() {
  document.documentElement.classList.add("started");
  const response = await fetch("model.json", { cache: "no-cache" }).catch(() => null);
  if (!response?.ok) throw new Error("model.json is missing beside this page. Copy the whole folder to the server.");
  metadata = await response.json().catch(() => { throw new Error("model.json is damaged. Copy or export the folder again."); });
  describe();
  stage = new Stage(byId("canvas"), byId("tip"), metadata);
  const names = await availableEngines(metadata);
  await startEngine(names);
  listen(names);
  document.documentElement.classList.add("ready");
}

start().catch((error) => {
  setStatus("");
  showError(error);
});
