// Runs the network beside the page, so that the page stays quick. Messages in: { start }, { frame }, { again };
// messages out: { progress }, { ready }, { found } or { error }.

import { fill, fit } from "./letterbox.js";
import { objects } from "./objects.js";

const THREADS = 8; // more gain nothing with networks of this size
const ENGINES = {
  webgpu: { script: "runtime/ort.webgpu.bundle.min.js", program: "runtime/ort-wasm-simd-threaded.asyncify.wasm" },
  wasm: { script: "runtime/ort.wasm.bundle.min.js", program: "runtime/ort-wasm-simd-threaded.wasm" },
};

let about; // record of the network
let ort; // onnxruntime-web
let session;
let last; // output of the latest image and where that lies in the input

self.onmessage = async ({ data }) => {
  try {
    if (data.start) await start(data.start);
    else if (data.frame) await look(data.frame, data.conf);
    else if (last) postMessage({ found: objects(last.output, about, data.again, last.place), again: true });
  } catch (error) {
    postMessage({ error: error.message || String(error) });
  }
};

/** Loads runtime and network; `engine` is wasm or webgpu. */
async function start({ record, engine }) {
  about = record;
  const { script, program } = ENGINES[engine];
  const [wasmBinary, network] = await both(program, about.file);
  ort = await import(`./${script}`).catch(() => { throw missing(script); });
  Object.assign(ort.env.wasm, { wasmBinary, numThreads: threads() });
  ort.env.logLevel = "error";
  try {
    session = await ort.InferenceSession.create(new Uint8Array(network), { executionProviders: [engine] });
    await run(new Float32Array(3 * about.imgsz[0] * about.imgsz[1]), about.imgsz); // the first run prepares the others
  } catch (error) {
    throw new Error(`${about.file} cannot be run: it may be damaged or cut off. Copy or export it again. (${error.message})`);
  }
  postMessage({ ready: { engine, threads: engine === "wasm" ? threads() : 0 } });
}

/** Threads share memory, which browsers allow only to pages that are isolated by two headers of their server. */
function threads() {
  return self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, THREADS) : 1;
}

const missing = (file) => new Error(`${file} is missing beside this page. Copy the whole folder to the server.`);

/** Fetches two files and tells how far it is. */
async function both(...files) {
  const done = files.map(() => [0, 0]);
  return Promise.all(files.map(async (file, index) => {
    const answer = await fetch(new URL(file, import.meta.url), { cache: "no-cache" }).catch(() => null);
    if (!answer?.ok) throw missing(file);
    const parts = [];
    done[index][1] = Number(answer.headers.get("Content-Length")) || 0;
    for (let reader = answer.body.getReader(), part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      done[index][0] += part.value.length;
      postMessage({ progress: done });
    }
    return new Blob(parts).arrayBuffer();
  }));
}

/** Finds the objects of an image: { width, height, pixels } with RGBA pixels. */
async function look({ width, height, pixels }, conf) {
  const begin = performance.now();
  const place = fit([height, width], about.imgsz, about.dynamic ? about.stride : 0);
  const planes = new Float32Array(3 * place.out[0] * place.out[1]);
  fill(new Uint8ClampedArray(pixels), place, planes);
  const ready = performance.now();
  last = { output: await run(planes, place.out), place };
  const ran = performance.now();
  const found = objects(last.output, about, conf, place);
  postMessage({ found, times: { before: ready - begin, network: ran - ready, after: performance.now() - ran } });
}

async function run(planes, [height, width]) {
  const input = new ort.Tensor("float32", planes, [1, 3, height, width]);
  const { [session.outputNames[0]]: output } = await session.run({ [session.inputNames[0]]: input });
  const kept = { data: await output.getData(), dims: output.dims };
  input.dispose();
  return kept;
}
