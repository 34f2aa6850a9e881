// Sends images and frames to the server, and shows the poses, the latency, the request and the response.

const ACCEPTED_TYPES = ["image/jpeg", "image/png", "image/webp", "image/bmp"]; // sent unchanged; others as JPEG
const PHASES = ["decode", "queue", "inference", "postprocess"];
const FRAME_QUALITY = 0.85; // JPEG frames of video and camera
const MAX_TEXT = 40_000; // characters of the response that are shown
const video = byId("video");

let models = []; // of GET models
let stage;
let source = null; // the open image, video or camera
let file = null; // the open image as it is sent
let response = null; // text of the last response
let controller = null; // cancels the request that is under way
let socket = null;
let key = "";

// -- texts of the page ---------------------------------------------------------------------------------------------

function showMessage(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

const currentModel = () => models.find(({ name }) => name === byId("model").value) || models[0];

/** Returns the parameters that differ from the defaults of the server. */
function parameters() {
  const model = currentModel();
  const values = {};
  if (models.length > 1 && model !== models[0]) values.model = model.name;
  for (const name of ["conf", "iou"]) {
    if (Math.abs(Number(byId(name).value) - model.defaults[name]) > 1e-9) values[name] = Number(byId(name).value);
  }
  if (byId("imgsz").value && Number(byId("imgsz").value) !== Math.max(...model.imgsz)) values.imgsz = byId("imgsz").value;
  return values;
}

const endpoint = () => {
  const url = new URL("predict", document.baseURI);
  for (const [name, value] of Object.entries(parameters())) url.searchParams.set(name, value);
  return url.href;
};

/** Returns a text in single quotes of a shell, or as a string of Python and JavaScript. */
const shellQuote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function requestText() {
  const url = endpoint();
  const name = file?.name || "image.jpg";
  const needsKey = report.needsKey;
  if (byId("language").value === "curl") {
    const header = needsKey ? ' -H "Authorization: Bearer $YOLOPOSE_API_KEY"' : "";
    return `curl -s${header} -F ${shellQuote(`file=@"${name.replaceAll('"', '\\"')}"`)} ${shellQuote(url)}`;
  }
  if (byId("language").value === "python") {
    const headers = needsKey ? ',\n    headers={"Authorization": f"Bearer {os.environ[\'YOLOPOSE_API_KEY\']}"}' : "";
    return `${needsKey ? "import os\n\n" : ""}import httpx\n\nresponse = httpx.post(\n    ${JSON.stringify(url)},\n` +
      `    files={"file": open(${JSON.stringify(name)}, "rb")}${headers},\n)\n` +
      'for pose in response.raise_for_status().json()["poses"]:\n    print(pose["confidence"], pose["keypoints"])';
  }
  const headers = needsKey ? ", headers: { Authorization: `Bearer ${key}` }" : "";
  return `const response = await fetch(${JSON.stringify(url)}, { method: "POST", body: file${headers} });\n` +
    "const { poses } = await response.json();";
}

const showRequest = () => { byId("request").textContent = requestText(); };

function showResponse(text, values) {
  response = text;
  const readable = JSON.stringify(values, null, 1).replace(/\{\s*("x|"sigma)[^{}]*\}/g, (point) => point.replace(/\s+/g, " "));
  byId("response").textContent = readable.length > MAX_TEXT ? `${readable.slice(0, MAX_TEXT)}\n…` : readable;
  byId("copy-response").disabled = false;
}

function showLatency(times, roundTrip) {
  const network = Math.max(roundTrip - times.total, 0);
  const parts = [...PHASES.map((phase) => [phase, times[phase] || 0]), ["network", network]];
  let position = 0;
  const segments = parts.map(([phase, value]) => {
    const from = position;
    position += value / Math.max(roundTrip, 1e-9);
    return [`phase-${phase}`, Math.min(from, 1), Math.min(position, 1)];
  });
  const rows = [...parts, ["total", roundTrip]];
  byId("latency").replaceChildren(
    makeBar(segments),
    html("dl", {}, rows.flatMap(([phase, value]) => [
      html("dt", { class: `phase-${phase}` }, phase === "network" ? "network and HTTP" : phase),
      html("dd", {}, `${value.toFixed(1)} ms`),
    ])),
  );
}

function showPoses(values, roundTrip) {
  const { classes } = currentModel().drawing;
  const detections = values.poses.map((pose) => ({
    cls: pose.class_id,
    score: pose.confidence,
    id: pose.track_id,
    box: ["x1", "y1", "x2", "y2"].map((name) => pose.box[name]),
    points: Object.values(pose.keypoints).map(({ x, y, confidence }) => (confidence === undefined ? [x, y] : [x, y, confidence])),
  }));
  stage.metadata = currentModel().drawing;
  stage.show(detections);
  const counts = new Map();
  for (const { cls } of detections) counts.set(cls, (counts.get(cls) || 0) + 1);
  const kinds = [...counts].sort(([a], [b]) => a - b).map(([cls, count]) => `${count} × ${classes[cls].name}`);
  byId("summary").textContent = kinds.join(", ") || "no pose above this confidence";
  const rate = source?.kind === "image" ? "" : `${frameRate()} frames per second · `;
  byId("status").textContent = `${rate}${Math.round(roundTrip)} ms, ${Math.round(values.time_ms.inference)} ms in the network`;
  byId("save").disabled = false;
  showLatency(values.time_ms, roundTrip);
  document.dispatchEvent(new CustomEvent("poses", { detail: { values, source: source?.name } }));
}

const frameTimes = [];

function frameRate() {
  const now = performance.now();
  frameTimes.push(now);
  while (now - frameTimes[0] > 2000) frameTimes.shift();
  return frameTimes.length > 1 ? ((frameTimes.length - 1) * 1000 / (now - frameTimes[0])).toFixed(1) : "–";
}

// -- requests ------------------------------------------------------------------------------------------------------

const authorization = () => (key ? { Authorization: `Bearer ${key}` } : {});

/** Returns the error of a response for users. */
async function responseError(answer) {
  if (answer.status === 401) askForKey(key ? "This key is wrong." : "This server needs a key. It stays in this tab.");
  const values = await answer.json().catch(() => null);
  return new Error(values?.error?.message || `The server answered with status ${answer.status}.`);
}

async function loadModels() {
  const answer = await fetch("models", { headers: authorization() });
  if (!answer.ok) throw await responseError(answer);
  models = (await answer.json()).models;
  byId("key-form").hidden = true;
  byId("model").replaceChildren(...models.map(({ name }) => new Option(name, name)));
  byId("model-label").hidden = models.length < 2;
  applyModel();
}

function applyModel() {
  const model = currentModel();
  byId("title").textContent = model.name;
  document.title = `${model.name} · poses`;
  for (const name of ["conf", "iou"]) {
    byId(name).value = model.defaults[name];
    byId(`${name}-value`).textContent = Number(byId(name).value).toFixed(2);
  }
  const side = Math.max(...model.imgsz);
  const sizes = model.dynamic ? [...new Set([320, 480, 640, 960, 1280, side])].sort((a, b) => a - b) : [side];
  byId("imgsz").replaceChildren(...sizes.map((size) => new Option(`${size} pixels`, size)));
  byId("imgsz").value = side;
  byId("imgsz").disabled = sizes.length < 2;
  stage.metadata = model.drawing;
  showRequest();
}

/** Sends the open image, and shows its poses; a newer request cancels it. */
async function sendImage() {
  const current = source;
  controller?.abort();
  controller = new AbortController();
  byId("status").textContent = "Waiting for the server…";
  showMessage("");
  const started = performance.now();
  try {
    const headers = { "Content-Type": file.type, ...authorization() };
    const answer = await fetch(endpoint(), { method: "POST", body: file, headers, signal: controller.signal });
    if (!answer.ok) throw await responseError(answer);
    const text = await answer.text();
    const roundTrip = performance.now() - started;
    if (source !== current) return;
    const values = JSON.parse(text);
    showResponse(text, values);
    showPoses(values, roundTrip);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("status").textContent = "";
    showMessage(error instanceof TypeError ? "The server cannot be reached." : error.message);
  }
}

// -- video and camera ----------------------------------------------------------------------------------------------

function streamSettings() {
  const settings = { ...parameters(), track: byId("track").checked, smooth: byId("smooth").checked };
  delete settings.model;
  settings.model = currentModel().name;
  if (byId("track").checked && !("conf" in settings)) delete settings.conf; // the default of the tracker
  return settings;
}

function openSocket() {
  return new Promise((resolve, reject) => {
    const url = new URL("stream", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const opened = new WebSocket(url);
    opened.addEventListener("open", () => {
      opened.send(JSON.stringify(key ? { key, ...streamSettings() } : streamSettings()));
      resolve(opened);
    });
    opened.addEventListener("error", () => reject(new Error("The stream cannot be opened.")));
  });
}

/** Sends a frame, and returns the response. */
function exchange(opened, frame) {
  return new Promise((resolve, reject) => {
    opened.onmessage = ({ data }) => resolve(data);
    opened.onclose = () => reject(new Error("The server closed the stream."));
    opened.send(frame);
  });
}

async function playStream(current) {
  frameTimes.length = 0;
  socket = await openSocket();
  try {
    while (source === current) {
      Object.assign(current, { width: video.videoWidth, height: video.videoHeight }); // a phone may be rotated
      stage.capture(current);
      const frame = await new Promise((resolve) => { stage.frame.toBlob(resolve, "image/jpeg", FRAME_QUALITY); });
      const started = performance.now();
      const text = await exchange(socket, frame);
      if (source !== current) return;
      const values = JSON.parse(text);
      if (values.error) throw new Error(values.error.message);
      showPoses(values, performance.now() - started);
      if (values.frame % 15 === 1) showResponse(text, values);
      await nextFrame(video);
    }
  } finally {
    socket.onclose = null;
    socket.close();
    socket = null;
  }
}

/** Opens the source that `getSource` returns, and closes the previous one. */
async function open(getSource) {
  const previous = source;
  source = null;
  showMessage("");
  if (previous && previous.kind !== "image") close(video);
  let opened = null;
  try {
    opened = await getSource();
    source = opened;
    byId("empty").hidden = true;
    byId("canvas").hidden = false;
    updateCamera();
    if (opened.kind === "image") {
      stage.capture(opened);
      stage.show([]);
      file = ACCEPTED_TYPES.includes(opened.file.type) ? opened.file : await asJpeg(opened.file.name);
      showRequest();
      await sendImage();
    } else {
      await playStream(opened);
    }
  } catch (error) {
    if (source === opened) {
      if (opened?.kind !== "image") close(video);
      if (opened?.kind !== "image") source = null;
      showMessage(error.message);
    }
  }
  updateCamera();
}

async function asJpeg(name) {
  const blob = await new Promise((resolve) => { stage.frame.toBlob(resolve, "image/jpeg", 0.95); });
  return new File([blob], `${name.replace(/\.\w+$/, "")}.jpg`, { type: "image/jpeg" });
}

const openDropped = (dropped) => open(async () => ({ ...await openFile(dropped, video), file: dropped }));

function updateCamera() {
  const isPlaying = source && source.kind !== "image";
  byId("camera").textContent = isPlaying ? `Stop the ${source.kind}` : "Use the camera";
  byId("summary").setAttribute("aria-live", isPlaying ? "off" : "polite");
}

// -- start ---------------------------------------------------------------------------------------------------------

let pending = 0;

/** Applies changed settings: to the next frame of a stream, or by sending the image again after a moment. */
function settingsChanged() {
  for (const name of ["conf", "iou"]) byId(`${name}-value`).textContent = Number(byId(name).value).toFixed(2);
  showRequest();
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(streamSettings()));
  if (source?.kind !== "image") return;
  clearTimeout(pending);
  pending = setTimeout(sendImage, 150);
}

function askForKey(text) {
  byId("key-form").hidden = false;
  byId("key-text").textContent = text;
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch { // not allowed without https
    button.textContent = "Select the text to copy";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

function listen() {
  for (const name of ["conf", "iou", "imgsz", "track", "smooth"]) byId(name).addEventListener("input", settingsChanged);
  byId("model").addEventListener("change", () => { applyModel(); settingsChanged(); });
  const applyDisplay = () => {
    stage.settings = { boxes: byId("boxes").checked, points: byId("points").checked, names: byId("names").checked };
    stage.paint();
  };
  for (const name of ["boxes", "points", "names"]) byId(name).addEventListener("change", applyDisplay);
  applyDisplay();
  byId("language").addEventListener("change", showRequest);
  byId("copy-request").addEventListener("click", ({ target }) => copy(requestText(), target));
  byId("copy-response").addEventListener("click", ({ target }) => copy(response, target));
  byId("file").addEventListener("change", ({ target }) => {
    if (target.files.length) openDropped(target.files[0]);
    target.value = ""; // else choosing the same file again would emit no event
  });
  byId("camera").addEventListener("click", () => {
    if (!source || source.kind === "image") return open(() => openCamera(video));
    source = null;
    close(video);
    updateCamera();
  });
  byId("save").addEventListener("click", () => {
    const link = html("a", { download: "poses.png" });
    link.href = byId("canvas").toDataURL("image/png");
    link.click();
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key = byId("key").value.trim();
    try { sessionStorage.setItem("yolopose-key", key); } catch { /* no storage */ }
    start();
  });
  listenToDrops();
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
    const [dropped] = event.dataTransfer.files;
    if (dropped) openDropped(dropped);
    else showMessage("The dropped item is not a file. Save the image first, then drop the file here.");
  });
  document.addEventListener("paste", (event) => {
    const [pasted] = event.clipboardData?.files || [];
    if (pasted) openDropped(pasted);
  });
}

async function start() {
  try {
    showMessage("");
    await loadModels();
    document.documentElement.classList.add("ready");
  } catch (error) {
    showMessage(error instanceof TypeError ? "The server cannot be reached." : error.message);
  }
}

startTheme();
stage = new Stage(byId("canvas"), byId("tip"), { classes: [], points: [], limbs: [] });
try { key = sessionStorage.getItem("yolopose-key") || ""; } catch { /* no storage */ }
listen();
if (report.needsKey && !key) askForKey("This server needs a key. It stays in this tab.");
else start();
