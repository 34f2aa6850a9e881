// Runs the network in a worker, so that the page stays responsive. Requests: { start }, { frame }, { filter };
// responses: { progress }, { ready }, { found } or { error }.

import { fill, fit } from "./letterbox.js";
import { postprocess } from "./postprocess.js";

const MAX_THREADS = 8; // more do not make networks of this size faster
const ENGINES = {
  webgpu: { script: "runtime/ort.webgpu.bundle.min.js", wasm: "runtime/ort-wasm-simd-threaded.asyncify.wasm" },
  wasm: { script: "runtime/ort.wasm.bundle.min.js", wasm: "runtime/ort-wasm-simd-threaded.wasm" },
};

let metadata; // content of model.json
let ort; // onnxruntime-web
let session;
let last; // output and letterbox of the latest frame

self.onmessage = async ({ data }) => {
  try {
    if (data.start) await start(data.start);
    else if (data.frame) await detect(data.frame, data.conf);
    else if (last) postMessage({ found: postprocess(last.output, metadata, data.filter, last.letterbox) });
  } catch (error) {
    postMessage({ error: error.message || String(error) });
  }
};

/** Loads the runtime and the network; `engine` is wasm or webgpu. */
async function start({ metadata: values, engine }) {
  metadata = values;
  const { script, wasm } = ENGINES[engine];
  const [wasmBinary, network] = await fetchFiles(wasm, metadata.file);
  ort = await import(`./${script}`).catch(() => { throw missingError(script); });
  Object.assign(ort.env.wasm, { wasmBinary, numThreads: threads() });
  ort.env.logLevel = "error";
  try {
    session = await ort.InferenceSession.create(new Uint8Array(network), { executionProviders: [engine] });
    await run(new Float32Array(3 * metadata.imgsz[0] * metadata.imgsz[1]), metadata.imgsz); // the first run is slow
  } catch (error) {
    throw new Error(`${metadata.file} cannot be opened: it may be damaged or truncated. Copy or export it again. (${error.message})`);
  }
  postMessage({ ready: { engine, threads: engine === "wasm" ? threads() : 0 } });
}

/** Returns the number of threads. Shared memory needs a page that two headers of its server isolate. */
function threads() {
  return self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS) : 1;
}

const missingError = (file) => new Error(`${file} is missing beside this page. Copy the whole folder to the server.`);

/** Fetches files and reports the progress. */
async function fetchFiles(...files) {
  const progress = files.map(() => [0, 0]); // loaded and total bytes
  return Promise.all(files.map(async (file, index) => {
    const response = await fetch(new URL(file, import.meta.url), { cache: "no-cache" }).catch(() => null);
    if (!response?.ok) throw missingError(file);
    const parts = [];
    progress[index][1] = Number(response.headers.get("Content-Length")) || 0;
    for (let reader = response.body.getReader(), part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      progress[index][0] += part.value.length;
      postMessage({ progress });
    }
    return new Blob(parts).arrayBuffer();
  }));
}

/** Detects poses in { width, height, pixels } with RGBA pixels. */
async function detect({ width, height, pixels }, conf) {
  const start = performance.now();
  const letterbox = fit([height, width], metadata.imgsz, metadata.dynamic ? metadata.stride : 0);
  const planes = new Float32Array(3 * letterbox.out[0] * letterbox.out[1]);
  fill(new Uint8ClampedArray(pixels), letterbox, planes);
  const prepared = performance.now();
  last = { output: await run(planes, letterbox.out), letterbox };
  const computed = performance.now();
  const found = postprocess(last.output, metadata, conf, letterbox);
  const after = performance.now() - computed;
  postMessage({ found, times: { before: prepared - start, network: computed - prepared, after } });
}

async function run(planes, [height, width]) {
  const input = new ort.Tensor("float32", planes, [1, 3, height, width]);
  const { [session.outputNames[0]]: output } = await session.run({ [session.inputNames[0]]: input });
  const result = { data: await output.getData(), dims: output.dims };
  input.dispose();
  return result;
}
