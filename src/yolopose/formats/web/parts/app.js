// Joins the parts of the page: what is opened goes through the engine, and what is found is shown.

import { Engine, engines } from "./engine.js";
import { close, nextFrame, openCamera, openFile } from "./sources.js";
import { Stage } from "./stage.js";

const byId = (id) => document.getElementById(id);
const video = byId("video");
const ENGINE_NAMES = { webgpu: "graphics card (WebGPU)", wasm: "processor (WebAssembly)" };

let about; // record of the network
let engine;
let stage;
let source = null; // what is open

// -- words on the page --------------------------------------------------------------------------------------------

function complain(error) {
  byId("message").textContent = error.message || String(error);
  byId("message").hidden = false;
}

function say(words) {
  byId("status").textContent = words;
}

function describe() {
  document.title = `${about.name} · poses`;
  byId("title").textContent = about.name;
  const kinds = about.classes.map(({ name }) => name);
  const some = kinds.slice(0, 4).join(", ") + (kinds.length > 4 ? ` and ${kinds.length - 4} more` : "");
  const points = `${about.kpt_shape[0]} keypoint${about.kpt_shape[0] === 1 ? "" : "s"}`;
  byId("about").textContent = `Finds: ${some}, ${points} each. Computed in this browser; nothing is sent anywhere.`;
  byId("license").textContent = about.license ? `Weights: ${about.license}. ` : "";
  const slider = byId("conf");
  slider.min = about.floor;
  slider.value = about.conf;
  byId("conf-value").textContent = Number(slider.value).toFixed(2);
}

/** How many objects of each class, and how quickly. */
function tell(found, times) {
  const counts = new Map();
  for (const { cls } of found) counts.set(cls, (counts.get(cls) || 0) + 1);
  const kinds = [...counts].sort(([one], [other]) => one - other).map(([cls, count]) => `${count} × ${about.classes[cls].name}`);
  byId("found").textContent = kinds.join(", ") || "nothing found above this confidence";
  if (!times || !source) return;
  const sum = times.before + times.network + times.after;
  say(`${source.kind === "image" ? "" : `${rate()} frames a second · `}${Math.round(sum)} ms a frame, of which the network ${Math.round(times.network)}`);
}

const moments = [];

/** Frames a second, over the last two seconds. */
function rate() {
  const now = performance.now();
  moments.push(now);
  while (now - moments[0] > 2000) moments.shift();
  return moments.length > 1 ? ((moments.length - 1) * 1000 / (now - moments[0])).toFixed(1) : "–";
}

// -- from a source to what is shown -------------------------------------------------------------------------------

/** Opens what `opening` gives, in place of what was open. */
async function open(opening) {
  const before = source;
  source = null;
  byId("message").hidden = true;
  if (before && before.kind !== "image") close(video);
  moments.length = 0;
  try {
    const opened = await opening();
    source = opened;
    await follow(opened);
  } catch (error) {
    if (!source) close(video);
    complain(error);
  }
  arrange();
}

/** Shows a source until another is opened; an image once. */
async function follow(mine) {
  arrange();
  do {
    const answer = await engine.look(stage.take(mine), conf());
    if (source !== mine) return;
    show(answer);
    if (mine.kind !== "image") {
      await nextFrame(video);
      Object.assign(mine, { width: video.videoWidth, height: video.videoHeight }); // a phone may be turned
    }
  } while (source === mine && mine.kind !== "image");
}

/** Shows what was found, and tells it to whoever listens: `poses` is an event of the document, for pages made of this one. */
function show({ found, times }) {
  stage.show(found);
  tell(found, times);
  document.dispatchEvent(new CustomEvent("poses", { detail: { found, times, source: source?.name } }));
}

const conf = () => Number(byId("conf").value);

/** Shows what belongs to the kind of source. */
function arrange() {
  byId("empty").hidden = Boolean(stage?.size);
  byId("canvas").hidden = !stage?.size && !source;
  byId("playing").hidden = source?.kind !== "video";
  byId("camera").textContent = source?.kind === "camera" ? "Stop the camera" : "Use the camera";
  byId("found").setAttribute("aria-live", source?.kind === "image" ? "polite" : "off");
}

/** Starts the engine anew, the chosen one or the best there is. */
async function begin(names) {
  const [name, ...others] = names;
  engine?.stop();
  byId("page").setAttribute("aria-busy", "true");
  say("Loading the network…");
  try {
    const progress = (share) => say(`Loading the network…${Number.isNaN(share) ? "" : ` ${Math.round(100 * share)} %`}`);
    engine = await Engine.start(about, name, progress);
  } catch (error) {
    if (!others.length) throw error;
    byId("engine").value = others[0];
    return begin(others); // a driver may promise more than it keeps
  }
  byId("page").removeAttribute("aria-busy");
  const threads = engine.about.threads > 1 ? ` on ${engine.about.threads} threads` : "";
  say(`Ready: ${about.imgsz[1]} × ${about.imgsz[0]}, ${ENGINE_NAMES[name]}${threads}.`);
}

// -- start --------------------------------------------------------------------------------------------------------

function listen(names) {
  const wish = () => {
    stage.wishes = { boxes: byId("boxes").checked, points: byId("points").checked, names: byId("names").checked };
    stage.paint();
  };
  for (const id of ["boxes", "points", "names"]) byId(id).addEventListener("change", wish);
  wish();
  byId("conf").addEventListener("input", async () => {
    byId("conf-value").textContent = conf().toFixed(2);
    if (!stage.size || (source?.kind !== "image" && !video.paused)) return; // the next frame follows it anyway
    show(await engine.again(conf()));
  });
  byId("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    if (file) open(() => openFile(file, video));
    target.value = ""; // the same file may be chosen again
  });
  byId("camera").addEventListener("click", () => {
    if (source?.kind !== "camera") return open(() => openCamera(video));
    source = null;
    close(video);
    arrange();
  });
  listenToDrops();
  listenToVideo();
  byId("engine").replaceChildren(...names.map((name) => new Option(ENGINE_NAMES[name], name)));
  byId("engines").hidden = names.length < 2;
  byId("engine").value = engine.about.engine;
  byId("engine").addEventListener("change", async ({ target }) => {
    const mine = source;
    source = null; // what waits for the engine that goes is left waiting
    try {
      await begin([target.value, ...names.filter((name) => name !== target.value)]);
      source = mine;
      if (mine) await follow(mine);
    } catch (error) {
      complain(error);
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
    else complain("What was dropped is no file. Save the image first, then drop the file here.");
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
  const answer = await fetch("model.json", { cache: "no-cache" }).catch(() => null);
  if (!answer?.ok) throw new Error("model.json is missing beside this page. Copy the whole folder to the server.");
  about = await answer.json().catch(() => { throw new Error("model.json is damaged. Copy or export the folder again."); });
  describe();
  stage = new Stage(byId("canvas"), byId("tip"), about);
  const names = await engines(about);
  await begin(names);
  listen(names);
  document.documentElement.classList.add("ready");
}

start().catch((error) => {
  say("");
  complain(error);
});
